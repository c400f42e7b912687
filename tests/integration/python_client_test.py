"""The Python client against real servers: answers, streams, cancellation, deadlines, retries, errors, keys; and the
package as pip builds it, with the examples of its README."""

import asyncio
import json
import pathlib
import re
import subprocess
import sys
import threading
import time
import zipfile

import pytest

from conftest import ROOT, Server, free_port

PACKAGE = ROOT / "clients/python"
LONG = {"max_tokens": 1500, "ignore_eos": True}


@pytest.fixture(scope="module")
def expertd():
    import expertd
    return expertd


@pytest.fixture(scope="module")
def client(expertd, server):
    with expertd.Client(server.target, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def slow_client(expertd, slow_server):
    with expertd.Client(slow_server.target, timeout=60) as client:
        yield client


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_every_kind_of_prompt(client, expertd):
    ids = client.tokenize("Once upon a time")
    assert client.detokenize(ids) == "Once upon a time"
    by_text = client.generate("Once upon a time", seed=3, max_tokens=20)
    by_ids = client.generate(ids, seed=3, max_tokens=20)
    assert by_text.text == by_ids.text and by_text.usage.completion_tokens == 20
    assert by_text.finish_reason is expertd.FinishReason.MAX_TOKENS

    chat = client.chat("What is the capital of France?", temperature=0)
    assert "Paris" in chat.text and chat.finish_reason == "stop"
    turns = [{"role": "user", "content": "What is the capital of France?"}]
    assert client.chat(turns, temperature=0).text == chat.text
    assert "capital" in client.render_chat(turns)


def test_a_stream_makes_the_same_answer(client):
    settings = {"seed": 5, "n": 2, "max_tokens": 24, "logprobs": 2, "token_ids": True}
    whole = client.generate("Once", **settings)
    with client.stream("Once", **settings) as stream:
        with pytest.raises(RuntimeError):
            stream.generation
        deltas = list(stream)

    assert stream.generation.candidates == whole.candidates and stream.generation.usage == whole.usage
    assert "".join(d.text for d in deltas if d.index == 1) == whole.candidates[1].text
    assert len(whole.candidates[0].logprobs) == 24 and len(whole.candidates[0].logprobs[0].top) == 2
    again = client.generate("Once", seed=whole.candidates[1].seed, max_tokens=24)
    assert again.text == whole.candidates[1].text


def test_leaving_a_stream_cancels_it(slow_server, slow_client):
    before = slow_server.metric("expertd_requests_total", code="CANCELLED")
    with slow_client.stream("Once", **LONG) as stream:
        next(stream)
    wait_until(lambda: slow_server.metric("expertd_requests_total", code="CANCELLED") == before + 1)


def test_settings_arrive(client):
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}}, "required": ["n"],
              "additionalProperties": False}
    assert set(json.loads(client.generate("A number:", json_schema=schema, seed=1).text)) == {"n"}
    assert client.generate("A", choices=["yes", "no"]).text in ("yes", "no")
    assert client.generate("A", regex="[0-9]{3}").text.isdigit()
    token = client.tokenize(" the")[0]
    assert client.generate("A", logit_bias={token: 100}, max_tokens=2, token_ids=True).candidates[0].token_ids == (
        token, token)
    stopped = client.generate("Once upon", stop="a", seed=1, max_tokens=200)
    assert stopped.finish_reason == "stop_sequence" and "a" not in stopped.text


@pytest.mark.parametrize("settings", [{"tempo": 1}, {"tools": [{"name": "f"}]}, {"regex": "a", "choices": ["a"]}])
def test_what_no_request_can_have_is_a_type_error(client, settings):
    with pytest.raises(TypeError):
        client.generate("text", **settings)


def test_errors_have_classes_reasons_and_fields(client, expertd):
    with pytest.raises(expertd.InvalidArgument) as raised:
        client.generate("A", temperature=9, request_id="mine")
    error = raised.value
    assert error.reason == "INVALID_PARAMETER" and error.request_id == "mine"
    assert [v.field for v in error.violations] == ["sampling.temperature"]
    with pytest.raises(expertd.NotFound):
        client.generate("A", model="other")
    with pytest.raises(expertd.InvalidArgument) as raised:
        client.generate([5] * 5000)
    assert raised.value.reason == "CONTEXT_LENGTH_EXCEEDED" and raised.value.metadata["promptTokens"] == "5000"
    with pytest.raises(expertd.Unimplemented):
        client.chat("A", tools=[{"name": "f"}], tool_choice="required")
    with pytest.raises(expertd.InvalidArgument):
        next(client.stream("A", temperature=9))


def test_a_timeout_ends_the_call_and_the_work(slow_client, expertd):
    with pytest.raises(expertd.DeadlineExceeded):
        slow_client.generate("Once", timeout=0.2, **LONG)
    with pytest.raises(expertd.DeadlineExceeded):
        list(slow_client.stream("Once", timeout=0.2, **LONG))
    wait_until(lambda: slow_client.load().ranks[0].num_running == 0)


def test_a_server_that_starts_late_is_waited_for(tmp_path, expertd):
    late = Server(tmp_path / "log", wait=False)
    try:
        with expertd.Client(late.target, retry=expertd.Retry(attempts=60, maximum=0.2)) as client:
            assert client.generate("Once", max_tokens=3).usage.completion_tokens == 3
            assert client.is_ready()
    finally:
        late.stop()


def test_retries_end(expertd):
    target = f"127.0.0.1:{free_port()}"
    with expertd.Client(target, retry=expertd.Retry(attempts=2, initial=0.01)) as client:
        assert not client.is_ready(timeout=0.5)
        with pytest.raises(expertd.Unavailable):
            client.generate("A")
        with pytest.raises(expertd.Unavailable):
            next(client.stream("A"))
    with expertd.Client(target, timeout=0.2, retry=expertd.Retry(attempts=1000)) as client:
        start = time.monotonic()
        with pytest.raises(expertd.Error):
            client.generate("A")
        assert time.monotonic() - start < 10


def test_a_stream_that_has_begun_is_not_begun_again(tmp_path, expertd):
    server = Server(tmp_path / "log", flags=["--isa", "scalar"])
    with expertd.Client(server.target) as client:
        stream = client.stream("Once", **LONG)
        next(stream)
        server.process.kill()
        server.process.wait()
        with pytest.raises(expertd.Unavailable):
            list(stream)


def test_keys(tmp_path, expertd):
    keys = tmp_path / "keys"
    keys.write_text("secret-key-0123456789\n")
    server = Server(tmp_path / "log", flags=["--api-key-file", str(keys)])
    try:
        with expertd.Client(server.target, api_key="secret-key-0123456789") as client:
            assert client.model().max_model_len > 0 and len(client.models()) == 1
            assert client.server_info().version
        with expertd.Client(server.target) as client, pytest.raises(expertd.Unauthenticated):
            client.generate("A")
    finally:
        server.stop()


def test_asyncio(slow_server, slow_client, expertd):
    settings = {"seed": 9, "max_tokens": 16}
    expected = slow_client.generate("Once", **settings).text
    before = slow_server.metric("expertd_requests_total", code="CANCELLED")

    async def main():
        async with expertd.AsyncClient(slow_server.target, timeout=60) as aio:
            answers = await asyncio.gather(*(aio.generate("Once", **settings) for _ in range(8)))
            assert {answer.text for answer in answers} == {expected}
            stream = aio.stream("Once", **settings)
            assert "".join([delta.text async for delta in stream]) == expected == stream.generation.text
            assert "Paris" in (await aio.chat("What is the capital of France?", temperature=0)).text
            async with aio.stream_chat("Hello", **LONG) as stream:
                await anext(stream)
            with pytest.raises(expertd.InvalidArgument):
                await aio.generate("A", top_p=7)
            with pytest.raises(expertd.InvalidArgument):
                await anext(aio.stream("A", top_p=7))
            with pytest.raises(expertd.DeadlineExceeded):
                await aio.generate("A", timeout=0.2, **LONG)
            waiting = asyncio.create_task(aio.generate("A", **LONG))
            await asyncio.sleep(0.1)
            waiting.cancel()
            assert await aio.detokenize(await aio.tokenize("你好")) == "你好"
            assert (await aio.model()).vocab_size == (await aio.models())[0].vocab_size
            assert (await aio.server_info()).version and await aio.is_ready()
            assert "Hello" in await aio.render_chat("Hello")
            assert len((await aio.load()).ranks) == 1

    asyncio.run(main())
    wait_until(lambda: slow_server.metric("expertd_requests_total", code="CANCELLED") == before + 2)


def test_threads_share_a_client(client):
    expected = client.generate("Two", seed=2, max_tokens=12).text
    texts = []
    threads = [threading.Thread(target=lambda: texts.append(client.generate("Two", seed=2, max_tokens=12).text))
               for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == [expected] * 16


def test_the_package_and_the_examples_of_its_readme(server, tmp_path):
    wheels = tmp_path / "wheels"
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(wheels),
                    str(PACKAGE)], check=True)
    [wheel] = wheels.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert {"expertd/py.typed", "expertd/v1/inference_pb2.py", "expertd/v1/inference_pb2.pyi"} <= set(names)

    examples = re.findall(r"```python\n(.*?)```", (PACKAGE / "README.md").read_text(), re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        code = example.replace("127.0.0.1:50051", server.target)
        result = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(tmp_path / "site")},
                                capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stderr
        assert result.stdout.strip()
    assert "Paris" in subprocess.run(
        [sys.executable, "-c", examples[0].replace("127.0.0.1:50051", server.target)],
        env={"PYTHONPATH": str(tmp_path / "site")}, capture_output=True, text=True).stdout
