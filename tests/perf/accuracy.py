"""What the formats of weights cost in accuracy, on the bundled model:

    build/venv/bin/python tests/perf/accuracy.py [--conversations 800] [--prompts 1000] [--flags="--isa avx2"]

Two measures for each format, both taken through a running server:

- perplexity of the answers (their end included) in conversations that models/data.py makes from a seed that training
  never used; the users' turns are given, as they were in training;
- the closed set of models/evaluate.py: facts and sums in wordings kept out of the training data, answered greedily;
  right means equal character by character.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import math
import pathlib
import random
import shlex
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "models")]

import conftest  # noqa: E402
import data  # noqa: E402

FORMATS = {"f32": ["--dtype", "f32"], "bf16": [], "int8": ["--quantization", "int8"], "int4": ["--quantization", "int4"]}
SEED = 471108  # training has 20240607, evaluate.py 7 and 1000 to 1059
CALLS_AT_ONCE = 64


@dataclasses.dataclass
class Accuracy:
    perplexity: float
    num_tokens: int  # of answers
    right: int  # of num_prompts
    num_prompts: int

    @property
    def closed_set(self):
        return self.right / self.num_prompts


def conversations(count):
    """Lists of {"role", "content"}."""
    rng = random.Random(SEED)
    return [data.conversation(rng) for _ in range(count)]


def closed_set(count):
    """[(prompt, answer)]: a sample of the held-out facts and sums, or all of them if there are fewer."""
    prompts = [pair for lang in data.LANGS for pool in (data.heldout_facts, data.heldout_arithmetic)
               for pair in pool(lang)]
    return random.Random(SEED).sample(prompts, min(count, len(prompts)))


def chat_request(messages, max_tokens):
    """A greedy request whose prompt is a conversation, open for an answer when the user spoke last."""
    from expertd.v1 import inference_pb2 as pb
    roles = {"system": pb.ROLE_SYSTEM, "user": pb.ROLE_USER, "assistant": pb.ROLE_ASSISTANT}
    request = pb.GenerateRequest()
    for message in messages:
        request.chat.messages.add(role=roles[message["role"]]).parts.add(text=message["content"])
    request.chat.add_generation_prompt = messages[-1]["role"] == "user"
    request.sampling.temperature = 0
    request.stop.max_tokens = max_tokens
    return request


def answer_logprobs(stub, messages):
    """The log-probabilities of the tokens of the assistant's turns, which are all that the model was trained to say."""
    request = chat_request(messages, max_tokens=1)
    request.output.prompt_logprobs.SetInParent()
    logprobs, turn = [], ""  # turn: its text so far, role first
    for entry in stub.Generate(request).prompt.logprobs:
        if turn.startswith("assistant\n"):
            logprobs.append(entry.logprob)
        turn = "" if entry.text in ("<|im_start|>", "<|im_end|>") else turn + entry.text
    return logprobs


def answer(stub, prompt):
    request = chat_request([{"role": "user", "content": prompt}], max_tokens=64)
    return stub.Generate(request).candidates[0].text


@contextlib.contextmanager
def serving(model, flags):
    with tempfile.TemporaryDirectory() as folder:
        server = conftest.Server(pathlib.Path(folder) / "server.log", model=model, flags=flags)
        try:
            with server.channel() as channel:
                yield server.inference(channel)
        finally:
            server.stop()


def measure(flags, num_conversations, num_prompts, model=conftest.MODEL):
    """The accuracy of a server with these flags."""
    texts, questions = conversations(num_conversations), closed_set(num_prompts)
    with serving(model, flags) as stub, concurrent.futures.ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
        logprobs = [value for values in pool.map(lambda text: answer_logprobs(stub, text), texts) for value in values]
        answers = list(pool.map(lambda question: answer(stub, question[0]), questions))
    return Accuracy(perplexity=math.exp(-sum(logprobs) / len(logprobs)), num_tokens=len(logprobs),
                    right=sum(got == wanted for got, (_, wanted) in zip(answers, questions)),
                    num_prompts=len(questions))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(conftest.MODEL))
    parser.add_argument("--conversations", type=int, default=800)
    parser.add_argument("--prompts", type=int, default=sys.maxsize, help="a sample of the closed set [all]")
    parser.add_argument("--flags", default="", help="further flags of the server")
    args = parser.parse_args()
    conftest.pytest_configure(None)  # makes the stubs
    found = {name: measure([*flags, *shlex.split(args.flags)], args.conversations, args.prompts, args.model)
             for name, flags in FORMATS.items()}
    base = found["bf16"]
    print(f"{base.num_tokens} tokens of answers, {base.num_prompts} prompts")
    print(f"{'weights':8s} {'perplexity':>10s} {'over bf16':>10s} {'closed set':>11s} {'over bf16':>12s}")
    for name, accuracy in found.items():
        print(f"{name:8s} {accuracy.perplexity:10.4f} {100 * (accuracy.perplexity / base.perplexity - 1):+8.2f} % "
              f"{100 * accuracy.closed_set:9.2f} % {100 * (accuracy.closed_set - base.closed_set):+5.2f} points")


if __name__ == "__main__":
    main()
