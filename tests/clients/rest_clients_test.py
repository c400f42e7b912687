"""LangChain, LiteLLM, lm-eval, OpenAI's Node package and vLLM's benchmark against REST, each as its users run it."""

import asyncio
import importlib.util
import json
import math
import os
import re
import subprocess

import numpy as np
import pydantic
import pytest

from conftest import MODEL, ROOT, Server, run
from dressed_model import QWEN, make_model

HERE = ROOT / "tests/clients"
FRANCE = "What is the capital of France?"


@pytest.fixture(scope="module")
def rest(server):
    return f"http://127.0.0.1:{server.rest_port}"


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    """A server whose model has Qwen3's template and marks, and takes seconds for a long answer."""
    folder = tmp_path_factory.mktemp("qwen")
    model, ids = make_model(folder / "model", "Qwen-Qwen3-0.6B.jinja", QWEN)
    running = Server(folder / "server.log", model=model, flags=["--served-model-name", "m", "--isa", "scalar"])
    running.ids = ids
    yield running
    assert running.stop() == 0, running.log_text()


def test_openai_for_node(qwen):
    folder = ROOT / "build/clients/node"
    result = subprocess.run(
        ["node", "--test", folder / "openai_node.mjs"], capture_output=True, text=True, timeout=120,
        env={**os.environ, "EXPERTD_REST": f"http://127.0.0.1:{qwen.rest_port}",
             "EXPERTD_THINK": str(qwen.ids["<think>"])})
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"pass 8\b", result.stdout), result.stdout


class Weather(pydantic.BaseModel):
    """The weather of a place."""

    city: str = pydantic.Field(max_length=12)
    days: int = pydantic.Field(ge=1, le=9)


def test_langchain(rest):
    from langchain_openai import ChatOpenAI, OpenAI
    chat = ChatOpenAI(base_url=f"{rest}/v1", api_key="none", model=MODEL.name, temperature=0, max_retries=0)
    answer = chat.invoke(FRANCE)
    assert "Paris" in answer.content
    assert answer.usage_metadata["output_tokens"] > 0

    pieces = list(chat.stream(FRANCE, stream_usage=True))
    assert "".join(piece.content for piece in pieces) == answer.content
    assert [p.usage_metadata for p in pieces if p.usage_metadata][-1]["total_tokens"] == (
        answer.usage_metadata["total_tokens"])
    assert [a.content for a in asyncio.run(chat.abatch([FRANCE] * 4))] == [answer.content] * 4

    text = OpenAI(base_url=f"{rest}/v1", api_key="none", model=MODEL.name, temperature=0, max_tokens=8, max_retries=0)
    assert text.invoke("Once upon a time").strip()


def test_langchain_tools_and_forms(qwen):
    from langchain_openai import ChatOpenAI
    chat = ChatOpenAI(base_url=f"http://127.0.0.1:{qwen.rest_port}/v1", api_key="none", model="m", seed=3,
                      max_tokens=400, max_retries=0, logit_bias={qwen.ids["<think>"]: -100})
    assert isinstance(chat.with_structured_output(Weather, method="json_schema").invoke(FRANCE), Weather)
    [call] = chat.bind_tools([Weather], tool_choice="Weather").invoke(FRANCE).tool_calls
    Weather(**call["args"])


def test_litellm(rest):
    import litellm
    options = {"model": f"hosted_vllm/{MODEL.name}", "api_base": f"{rest}/v1", "api_key": "none", "temperature": 0}
    messages = [{"role": "user", "content": FRANCE}]
    answer = litellm.completion(messages=messages, **options)
    assert "Paris" in answer.choices[0].message.content and answer.usage.completion_tokens > 0
    pieces = litellm.completion(messages=messages, stream=True, **options)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == answer.choices[0].message.content
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(messages=[{"role": "user", "content": "word " * 6000}], **options)
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(messages=messages, **{**options, "model": "hosted_vllm/other"})


@pytest.mark.parametrize("kind", ["completions", "chat_completions"])
def test_what_vllms_benchmark_sends_and_reads(slow_server, kind):
    """`vllm bench serve` measures with these functions; the rest of the package needs a GPU's libraries. A slow server:
    what a quick one writes may come in one piece, with no time between tokens to measure."""
    import aiohttp
    spec = importlib.util.spec_from_file_location(
        "endpoint_request_func", ROOT / "build/clients/vllm/vllm/benchmarks/lib/endpoint_request_func.py")
    vllm = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(vllm)
    send = getattr(vllm, f"async_request_openai_{kind}")

    async def measure(output_len):
        url = f"http://127.0.0.1:{slow_server.rest_port}/v1/{kind.replace('_', '/')}"
        wanted = vllm.RequestFuncInput(prompt="Once upon a time", api_url=url,
                                       prompt_len=4, output_len=output_len, model=MODEL.name, ignore_eos=True,
                                       extra_body={"temperature": 0})
        async with aiohttp.ClientSession() as session:
            return await asyncio.gather(*(send(wanted, session=session) for _ in range(20)))

    for result in asyncio.run(measure(96)):
        assert result.success, result.error
        assert result.output_tokens == 96 and result.prompt_len > 0
        assert 0 < result.ttft <= result.latency and result.itl and result.generated_text
    for result in asyncio.run(measure(10_000_000)):
        assert not result.success and "maximum context length" in result.error


ITEMS = [(FRANCE, ["Paris", "Rome", "Berlin", "Madrid"]), ("Once upon a", ["time", "house", "dog"]),
         ("Two and two is", ["four", "five"]), ("The cat sat on the", ["mat", "moon", "sky"]),
         ("你", ["好", "们", "是"]), ("The sun is", ["hot", "cold"]), ("A dog can", ["run", "fly", "read"]),
         ("Water is", ["wet", "dry"]), ("The sky is", ["blue", "green", "red"]), ("I like to", ["play", "stone"])]


def log_likelihood(context, continuation, folder):
    """Of the ids of `continuation` behind those of `context`, by `expertd logits`."""
    output = folder / "logits.npy"
    run("logits", MODEL, "--token-ids", ",".join(map(str, context + continuation)), "-o", output)
    logits = np.load(output).astype(np.float64)
    rows = logits[len(context) - 1:-1]
    shifted = rows - rows.max(axis=1, keepdims=True)
    logprobs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return sum(logprobs[i, token] for i, token in enumerate(continuation))


def test_lm_eval(rest, tmp_path):
    (tmp_path / "items.jsonl").write_text("".join(
        json.dumps({"question": question, "choices": choices}, ensure_ascii=False) + "\n" for question, choices in ITEMS))
    (tmp_path / "task.yaml").write_text(f"""
task: expertd_small
dataset_path: json
dataset_kwargs: {{data_files: {{test: {tmp_path}/items.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: choices
doc_to_target: 0
metric_list: [{{metric: acc}}]
""")
    result = subprocess.run(
        ["lm_eval", "--model", "local-completions", "--model_args",
         f"model={MODEL.name},base_url={rest}/v1/completions,tokenizer={MODEL},num_concurrent=4,max_retries=1",
         "--tasks", "expertd_small", "--include_path", tmp_path, "--output_path", tmp_path / "results", "--log_samples"],
        capture_output=True, text=True, timeout=300, cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "OPENAI_API_KEY": "none",
             "PATH": f"{ROOT}/build/clients/venv/bin:{os.environ['PATH']}"})
    assert result.returncode == 0, result.stderr[-3000:]
    [samples] = (tmp_path / "results").rglob("samples_*.jsonl")
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    assert len(lines) == len(ITEMS)

    from transformers import AutoTokenizer
    encode = AutoTokenizer.from_pretrained(MODEL).encode
    num_checked = 0
    for line in lines:
        for choice, [answer] in zip(line["doc"]["choices"], line["resps"]):
            whole = encode(f"{line['doc']['question']} {choice}")
            context = encode(line["doc"]["question"])
            found = float(answer[0])
            expected = log_likelihood(context, whole[len(context):], tmp_path)
            assert math.isclose(found, expected, abs_tol=1e-4), (line["doc"]["question"], choice, found, expected)
            num_checked += 1
    assert num_checked == sum(len(choices) for _, choices in ITEMS)
