#!/usr/bin/env python3
"""Records tiny random checkpoints and what other implementations than ours compute with them.

Run by hand with torch, transformers 5 and safetensors installed; the outputs are kept in the repository:

    python tests/golden/models/record.py [case ...]
    python tests/golden/models/record.py --fresh FAMILY --seed N OUT     another folder of that family, other sizes

Per case (cases.py) a folder with the checkpoint, `golden.json` (prompts and greedy tokens) and `logits.f32`
(little-endian float32, the logits of every prompt position, [positions, vocab]). Qwen is computed by transformers.
DeepSeek and Pangu are computed by the references of this folder: transformers has no Pangu, and its deepseek_v2 ignores
norm_topk_prob (5.23.0; the original code divides by the sum instead of scaling). Where transformers has the same model
(deepseek_v3, deepseek_v2 without norm_topk_prob, openPangu-Embedded as a Llama with biases), they must agree.

Everything is computed in float32 on the weights as they were saved. The initial weights are larger than usual, so
that logits spread; a seed is taken only when the best and the second best logit of every greedy step lie apart, and
when the reference in float64 says the same.
"""

import argparse
import itertools
import json
import pathlib
import random
import shutil

import torch
import transformers

import checkpoints
import deepseek_reference
import pangu_alpha_reference
import pangu_pro_moe_reference
import transformers_models
from cases import CASES, FAMILIES, fresh_case

HERE = pathlib.Path(__file__).parent
GREEDY_TOKENS = 64
MIN_MARGIN = 2e-3
MIN_DISTINCT = 6  # tokens of a continuation: one that repeats itself would test little
MAX_ROUNDING = 4e-5  # a fifth of what the tests allow
MAX_DISAGREEMENT = 1e-4  # between the reference and transformers, both in float32

REFERENCES = {"deepseek_v2": deepseek_reference, "deepseek_v3": deepseek_reference,
              "pangu_pro_moe": pangu_pro_moe_reference, "openpangu_embedded": pangu_pro_moe_reference,
              "pangu_alpha": pangu_alpha_reference, "pangu_alpha_megatron": pangu_alpha_reference}


def prompts_of(config):
    """One token, a few, many; the continuation must stay within the positions."""
    limit = config["max_position_embeddings"] - GREEDY_TOKENS
    scattered = [(7 * i * i + 11 * i + 3) % config["vocab_size"] for i in range(min(70, limit))]
    return [[5], [17, 3, 88, 41, 9, 60, 60, 2, 71], scattered]


def write_reference(case, seed, folder):
    """Saves the case's random checkpoint and returns its weights."""
    config, dtype = case["config"], case.get("dtype", "float32")
    shapes = REFERENCES[case["family"]].tensor_shapes(config)
    weights = checkpoints.random_weights(shapes, seed, getattr(torch, dtype))
    if case["family"] == "pangu_alpha_megatron":
        key = case.get("top_query_key", "topQueryEmbedding")
        checkpoints.save_megatron(folder, config, weights, case["num_ranks"], key)
    else:
        stored = checkpoints.with_port_buffers(config, weights) if case.get("buffers") else weights
        checkpoints.save_folder(folder, config | {"torch_dtype": dtype}, stored, case.get("shard_bytes"))
    return weights


def write(case, seed, folder):
    """Saves the case's random checkpoint and returns functions from tokens to logits, in float32 and in float64 (or
    float32 again)."""
    if case["family"] not in REFERENCES:
        compute = transformers_models.write(case, seed, folder)
        return compute, compute
    reference, weights = REFERENCES[case["family"]], write_reference(case, seed, folder)

    def in_type(dtype):
        cast = {name: weight.to(dtype) for name, weight in weights.items()}
        return lambda tokens: reference.logits(case["config"], cast, tokens)

    return in_type(torch.float32), in_type(torch.float64)


def greedy(compute, prompt):
    """Greedy continuation, and the smallest margin of all steps."""
    tokens, margin = [], float("inf")
    while len(tokens) < GREEDY_TOKENS and margin >= MIN_MARGIN:
        best = torch.topk(compute(prompt + tokens)[-1], 2)
        margin = min(margin, float(best.values[0] - best.values[1]))
        tokens.append(int(best.indices[0]))
    return tokens, margin


def record(case, seed, folder):
    """False if the seed is not fit."""
    shutil.rmtree(folder, ignore_errors=True)
    compute, compute_precisely = write(case, seed, folder)
    prompts, logits = [], []
    for prompt in prompts_of(case["config"]):
        tokens, margin = greedy(compute, prompt)
        if margin < MIN_MARGIN or len(set(tokens)) < MIN_DISTINCT:
            return False
        prompts.append({"prompt": prompt, "greedy": tokens})
        logits.append(compute(prompt))
        whole = prompt + tokens[:-1]
        if (compute(whole) - compute_precisely(whole)).abs().max() > MAX_ROUNDING:
            return False
    disagreement = transformers_models.disagreement(case, folder, prompts, logits)
    if disagreement is not None:
        print(f"{folder.name}: transformers differs by {disagreement:.1e}")
        assert disagreement < MAX_DISAGREEMENT
    if case["family"] not in REFERENCES:
        transformers_models.respell(case, folder)
    torch.cat(logits).numpy().astype("<f4").tofile(folder / "logits.f32")
    library = torch if case["family"] in REFERENCES else transformers
    text = json.dumps({library.__name__: library.__version__, "seed": seed, "prompts": prompts})
    (folder / "golden.json").write_text(text + "\n")
    return True


def record_with_fit_seed(case, folder, seeds):
    seed = next(seed for seed in seeds if record(case, seed, folder))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder.name}: seed {seed}, {size} bytes")


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="case", help="recorded cases (default: all), or OUT with --fresh")
    parser.add_argument("--fresh", choices=FAMILIES, help="write a folder that is not among the recorded")
    parser.add_argument("--seed", type=int, default=0, help="of --fresh: another folder by each")
    args = parser.parse_args()
    torch.set_num_threads(1)
    transformers_models.silence()
    if args.fresh:
        if len(args.names) != 1 or pathlib.Path(args.names[0]).exists():
            parser.error("--fresh writes one folder, OUT, that does not exist yet")
        case = fresh_case(args.fresh, random.Random(f"{args.fresh} {args.seed}"))
        print(json.dumps(case))
        return record_with_fit_seed(case, pathlib.Path(args.names[0]), itertools.count(1000 * args.seed))
    for name in args.names or CASES:
        record_with_fit_seed(CASES[name], HERE / name, range(200))


if __name__ == "__main__":
    main()
