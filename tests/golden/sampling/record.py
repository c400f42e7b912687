"""Records what Hugging Face's logits processors and warpers do to given rows, for tests/unit/sampling/golden_test.cc.

Run: python record.py > expected.json   (torch, transformers; the versions used stand in the file)

Rows are not stored: both sides make them from a seed (`make_row`), as numbers that a float holds exactly. The warpers
run in float64, so that a token at the edge of top-p is judged by the rule and not by the rounding of a float32 sum.
The order is ours (and vLLM's): temperature, min-p, top-k, top-p.
"""
import json
import random
import sys

import torch
import transformers
from transformers.generation import logits_process as hf

NONE = torch.zeros((1, 0), dtype=torch.long)


def make_row(seed, vocab_size, spread):
    """Multiples of 2^-20 * spread in [-8, 8) * spread, by a linear congruential generator (Knuth's MMIX constants)."""
    state, row = seed, []
    for _ in range(vocab_size):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        row.append(((state >> 40) - 2**23) / 2**20 * spread)
    return row


def untied_seed(seed, vocab_size):
    """The first seed from `seed` on whose row has no equal numbers: on ties the libraries' sorts decide as they like."""
    while len(set(make_row(seed, vocab_size, 1.0))) < vocab_size:
        seed += 1
    return seed


def as_scores(row):
    return torch.tensor([row], dtype=torch.float64)


def mask_hex(kept):
    """Bit i % 8 of byte i // 8: token i is kept."""
    data = bytearray((len(kept) + 7) // 8)
    for i, bit in enumerate(kept):
        data[i // 8] |= int(bit) << (i % 8)
    return data.hex()


def selection_case(seed, vocab_size, spread, temperature, min_p, top_k, top_p):
    seed = untied_seed(seed, vocab_size)
    scores = as_scores(make_row(seed, vocab_size, spread))
    scores = hf.TemperatureLogitsWarper(temperature)(NONE, scores)
    if min_p > 0:
        scores = hf.MinPLogitsWarper(min_p)(NONE, scores)
    if top_k > 0:
        scores = hf.TopKLogitsWarper(top_k)(NONE, scores)
    if top_p < 1:
        scores = hf.TopPLogitsWarper(top_p)(NONE, scores)
    probs = torch.softmax(scores, -1)[0]
    likely = torch.topk(probs, min(4, vocab_size)).indices.tolist()
    return {
        "seed": seed, "vocab_size": vocab_size, "spread": spread, "temperature": temperature, "min_p": min_p,
        "top_k": top_k, "top_p": top_p, "kept": mask_hex(torch.isfinite(scores[0]).tolist()),
        "probs": [[i, round(probs[i].item(), 9)] for i in likely],
    }


def selection_cases():
    settings = [(1.0, 0, 0, 1.0), (1.0, 0, 0, 0.9), (1.0, 0, 0, 0.05), (1.0, 0, 0, 0.999), (0.7, 0, 20, 0.8),
                (0.6, 0, 20, 0.95), (1.0, 0, 1, 1.0), (1.0, 0, 50, 1.0), (1.5, 0.1, 0, 1.0), (5.0, 0.02, 0, 0.95),
                (5.0, 0, 0, 0.5), (50.0, 0, 0, 0.8), (0.3, 0.05, 40, 0.9), (3.0, 0, 300, 0.99), (1.0, 1.0, 0, 1.0),
                (1.0, 0, 100000, 0.7), (20.0, 0.5, 700, 0.3)]
    cases = []
    for vocab_size, spread in [(1, 1.0), (7, 1.0), (64, 0.5), (65, 0.25), (1009, 1.0), (1009, 0.25), (4001, 0.5)]:
        for i, (temperature, min_p, top_k, top_p) in enumerate(settings):
            cases.append(selection_case(1000 * vocab_size + i, vocab_size, spread, temperature, min_p, top_k, top_p))
    return cases


def values(scores):
    return [None if v == float("-inf") else round(v, 7) for v in scores[0].tolist()]


def processor_cases():
    """Each case names the fields of SamplingParams and StopConditions that are set."""
    vocab_size, generator = 61, random.Random(7)
    cases = []

    def add(name, scores_to, **fields):
        seed = untied_seed(500 + len(cases), vocab_size)
        prompt = [generator.randrange(vocab_size) for _ in range(9)]
        output = [generator.randrange(12) for _ in range(14)]  # of few tokens, so that some repeat
        scores = as_scores(make_row(seed, vocab_size, 1.0))
        scores = scores_to(torch.tensor([prompt + output]), scores, len(prompt), output)
        cases.append({"name": name, "seed": seed, "vocab_size": vocab_size, "spread": 1.0, "prompt": prompt,
                      "output": output, **fields, "expected": values(scores)})

    def repetition(penalty):
        return lambda ids, scores, n, output: hf.RepetitionPenaltyLogitsProcessor(penalty)(ids, scores)

    add("repetition 1.3", repetition(1.3), repetition_penalty=1.3)
    add("repetition 0.8", repetition(0.8), repetition_penalty=0.8)

    # transformers has no such processors; this is the formula of OpenAI's API reference.
    def additive(frequency, presence):
        def apply(ids, scores, n, output):
            counts = torch.bincount(torch.tensor(output), minlength=vocab_size).double()
            return scores - frequency * counts - presence * (counts > 0)
        return apply

    add("frequency 0.5", additive(0.5, 0.0), frequency_penalty=0.5)
    add("presence 1.5", additive(0.0, 1.5), presence_penalty=1.5)
    add("frequency -0.25, presence 0.75", additive(-0.25, 0.75), frequency_penalty=-0.25, presence_penalty=0.75)

    bias = {(3,): 2.5, (17,): -100.0, (60,): 0.125}
    add("bias", lambda ids, scores, n, output: hf.SequenceBiasLogitsProcessor(bias)(ids, scores.float()).double(),
        logit_bias=[[i[0], b] for i, b in bias.items()])

    allowed = [0, 5, 6, 44, 60]
    add("allowed", lambda ids, scores, n, output: hf.PrefixConstrainedLogitsProcessor(lambda b, s: allowed, 1)(
        ids, scores), allowed_token_ids=allowed)

    words = {}

    def bad_words(ids, scores, n, output):
        last = ids[0].tolist()
        words["list"] = [[8], [last[-1], 30], [last[-2], last[-1], 31], [last[-1], last[-2], 32], [40, 33], last + [34],
                         [59] + last + [35]]
        return hf.NoBadWordsLogitsProcessor(words["list"], eos_token_id=None)(ids, scores.float()).double()

    add("bad words", bad_words)
    cases[-1]["bad_words"] = words["list"]

    def min_new(tokens):
        return lambda ids, scores, n, output: hf.MinNewTokensLengthLogitsProcessor(n, tokens, [2, 9])(ids, scores)

    add("one token before min_tokens", min_new(15), min_tokens=15, eos=[2], stop_token_ids=[9])
    add("at min_tokens", min_new(14), min_tokens=14, eos=[2], stop_token_ids=[9])

    def all_of_them(ids, scores, n, output):
        scores = hf.PrefixConstrainedLogitsProcessor(lambda b, s: list(range(30)), 1)(ids, scores)
        scores = hf.NoBadWordsLogitsProcessor([[1], [4]], eos_token_id=None)(ids, scores.float()).double()
        scores = hf.MinNewTokensLengthLogitsProcessor(n, 20, [2, 9])(ids, scores)
        scores = hf.SequenceBiasLogitsProcessor({(6,): 3.0, (50,): 9.0})(ids, scores.float()).double()
        scores = hf.RepetitionPenaltyLogitsProcessor(1.1)(ids, scores)
        return additive(0.2, 0.4)(ids, scores, n, output)

    add("all, in order", all_of_them, allowed_token_ids=list(range(30)), bad_words=[[1], [4]], min_tokens=20, eos=[2],
        stop_token_ids=[9], logit_bias=[[6, 3.0], [50, 9.0]], repetition_penalty=1.1, frequency_penalty=0.2,
        presence_penalty=0.4)
    return cases


def logprob_cases():
    cases = []
    for seed, vocab_size, spread, token in [(1, 5, 1.0, 2), (2, 64, 1.0, 63), (3, 1009, 0.5, 77), (4, 4001, 4.0, 4000)]:
        seed = untied_seed(seed, vocab_size)
        logprobs = torch.log_softmax(as_scores(make_row(seed, vocab_size, spread)), -1)[0]
        top = torch.topk(logprobs, 5)
        cases.append({
            "seed": seed, "vocab_size": vocab_size, "spread": spread, "token": token,
            "logprob": round(logprobs[token].item(), 9), "rank": int((logprobs >= logprobs[token]).sum()),
            "top": [[i, round(v, 9)] for i, v in zip(top.indices.tolist(), top.values.tolist())],
        })
    return cases


def main():
    lines = []
    for key, cases in [("selection", selection_cases()), ("processors", processor_cases()),
                       ("logprobs", logprob_cases())]:
        body = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
        lines.append(f'"{key}":[\n{body}\n]')
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    sys.stdout.write("{" + f'"versions":{json.dumps(versions)},\n' + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
