"""The Python client against real servers: answers, streams, cancellation, deadlines, retries, errors, keys, TLS;
against one that fails as it is told; and the package as pip builds it, with the examples of its README."""

import asyncio
import concurrent.futures
import contextlib
import copy
import json
import pathlib
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

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


@pytest.mark.parametrize("settings", [{"tempo": 1}, {"tools": [{"name": "f"}]}, {"regex": "a", "choices": ["a"]},
                                      {"json_schema": {}, "regex": "a"}])
def test_what_no_request_can_have_is_a_type_error(client, settings):
    with pytest.raises(TypeError):
        client.generate("text", **settings)


def test_what_no_conversation_can_have_is_a_value_error(client):
    with pytest.raises(ValueError, match="no turns"):
        client.chat([])
    with pytest.raises(ValueError, match="is 'wizard'; must be one of system"):
        client.chat([{"role": "wizard", "content": "Hi"}])
    with pytest.raises(ValueError, match="is None"):
        client.chat([{"content": "Hi"}])


def test_a_server_that_falls_silent_ends_a_call_without_a_deadline(expertd, start_server):
    server = start_server("--isa", "scalar")
    quick = [("grpc.keepalive_time_ms", 10_000), ("grpc.keepalive_timeout_ms", 1000),
             ("grpc.http2.ping_timeout_ms", 1000)]
    with expertd.Client(server.target, retry=expertd.Retry(attempts=1), options=quick) as client:
        client.load()
        stopping = threading.Timer(0.3, server.process.send_signal, (signal.SIGSTOP,))
        stopping.start()
        try:
            with pytest.raises(expertd.Unavailable):
                client.generate("A", **LONG)
        finally:
            stopping.join()
            server.process.send_signal(signal.SIGCONT)


def test_all_pages_of_models_are_taken(expertd):
    from expertd.v1 import model_pb2, model_pb2_grpc

    class Models(model_pb2_grpc.ModelServiceServicer):
        def ListModels(self, request, context):
            page = int(request.page_token or 0)
            return model_pb2.ListModelsResponse(models=[model_pb2.Model(name=f"m{page}")],
                                                next_page_token=str(page + 1) if page < 2 else "")

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
    model_pb2_grpc.add_ModelServiceServicer_to_server(Models(), server)
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()

    async def names():
        async with expertd.AsyncClient(target) as aio:
            return [model.name for model in await aio.models()]

    with expertd.Client(target) as client:
        assert [model.name for model in client.models()] == ["m0", "m1", "m2"] == asyncio.run(names())
    server.stop(None).wait()


def test_errors_have_classes_reasons_and_fields(client, expertd):
    with pytest.raises(expertd.InvalidArgument) as raised:
        client.generate("A", temperature=9, request_id="mine")
    error = raised.value
    assert error.reason == "INVALID_PARAMETER" and error.request_id == "mine"
    assert [v.field for v in error.violations] == ["sampling.temperature"]
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is type(error) and str(twin) == str(error) and vars(twin) == vars(error)
    with pytest.raises(expertd.NotFound):
        client.render_chat("Hi", model="other")
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


def test_no_call_is_lost_while_a_server_gives_way_to_another(start_server, expertd):
    first, second = start_server(), start_server()
    has_moved = threading.Event()

    def ask_on():
        with expertd.Client(f"ipv4:{first.target},{second.target}", timeout=60) as client:
            while not has_moved.is_set():
                client.generate("A", max_tokens=1)

    with concurrent.futures.ThreadPoolExecutor() as threads:
        askers = [threads.submit(ask_on) for _ in range(8)]
        wait_until(lambda: first.metric("expertd_requests_total", code="OK") > 200)
        assert first.stop() == 0
        wait_until(lambda: second.metric("expertd_requests_total", code="OK") > 200)
        has_moved.set()
        for asker in askers:
            asker.result(60)


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


def test_tls(tmp_path, expertd):
    key, certificate = tmp_path / "tls.key", tmp_path / "tls.crt"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
                   check=True, capture_output=True)
    server = Server(tmp_path / "log", flags=["--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)], wait=False)

    async def count():
        async with expertd.AsyncClient(server.target, ca_file=str(certificate)) as aio:
            return len(await aio.models())

    try:
        with expertd.Client(server.target, ca_file=str(certificate), retry=expertd.Retry(60, maximum=0.2)) as client:
            assert client.generate("Once", max_tokens=3).usage.completion_tokens == 3
        assert asyncio.run(count()) == 1
        with expertd.Client(server.target, tls=True, retry=expertd.Retry(1)) as client, pytest.raises(
                expertd.Unavailable):
            client.models()  # this machine's authorities don't know the certificate
    finally:
        server.stop()


@contextlib.contextmanager
def failing_server(failures, retry_delay=0.0, text="", has_summary=True, is_stopping=False):
    """A server whose first calls, `failures` of them, are UNAVAILABLE, streams after a Delta of `text` if there is one;
    yields its address and the list of its calls. is_stopping: it cancels them, as gRPC does of itself."""
    from expertd.v1 import inference_pb2 as pb, inference_pb2_grpc
    calls = []

    def note_call(context):
        calls.append(time.monotonic())
        context.send_initial_metadata((("x-request-id", f"call-{len(calls)}"),))

    def fail(context):
        if is_stopping:
            context.abort(grpc.StatusCode.CANCELLED, "")
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(retry_delay * 1e9))
        details = [any_pb2.Any(), any_pb2.Any()]
        details[0].Pack(error_details_pb2.ErrorInfo(reason="NOT_READY"))
        details[1].Pack(retry)
        status = status_pb2.Status(code=14, message="starting", details=details)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(grpc.StatusCode.UNAVAILABLE, "starting")

    class Inference(inference_pb2_grpc.InferenceServiceServicer):
        def Generate(self, request, context):
            note_call(context)
            if len(calls) <= failures:
                fail(context)
            return pb.GenerateResponse(candidates=[pb.Candidate(text="done")])

        def StreamGenerate(self, request, context):
            note_call(context)
            if text:
                yield pb.StreamGenerateResponse(accepted=pb.Accepted(num_candidates=1))
                yield pb.StreamGenerateResponse(delta=pb.Delta(text=text))
            if len(calls) <= failures:
                fail(context)
            yield pb.StreamGenerateResponse(accepted=pb.Accepted(num_candidates=1))
            yield pb.StreamGenerateResponse(delta=pb.Delta(text="done"))
            if has_summary:
                yield pb.StreamGenerateResponse(summary=pb.Summary())

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(Inference(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", calls
    server.stop(None).wait()


class Blocking:
    """An AsyncClient that is called like a Client, for tests of both."""

    def __init__(self, expertd, target, **options):
        self.make = lambda: expertd.AsyncClient(target, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def generate(self, prompt):
        async def main():
            async with self.make() as client:
                return await client.generate(prompt)
        return asyncio.run(main())

    def stream(self, prompt):
        async def main():
            async with self.make() as client, client.stream(prompt) as stream:
                return [delta async for delta in stream]
        return asyncio.run(main())


@pytest.fixture(params=["blocking", "asyncio"])
def make_client(request, expertd):
    """Makes a client of either kind."""
    if request.param == "blocking":
        return expertd.Client
    return lambda target, **options: Blocking(expertd, target, **options)


QUICK = {"initial": 0.001, "maximum": 0.001}


def test_calls_are_tried_again_after_the_servers_pause(make_client, expertd):
    for method in ("generate", "stream"):
        with failing_server(2, retry_delay=0.3) as (target, calls), make_client(
                target, retry=expertd.Retry(3, **QUICK)) as client:
            answer = getattr(client, method)("A")
            assert (answer.text if method == "generate" else "".join(delta.text for delta in answer)) == "done"
        assert len(calls) == 3 and calls[1] - calls[0] >= 0.3 and calls[2] - calls[1] >= 0.3


def test_what_a_server_cancels_that_stops_is_unavailable(make_client, expertd):
    for method in ("generate", "stream"):
        with failing_server(2, is_stopping=True) as (target, calls), make_client(
                target, retry=expertd.Retry(3, **QUICK)) as client:
            answer = getattr(client, method)("A")
            assert (answer.text if method == "generate" else "".join(delta.text for delta in answer)) == "done"
        assert len(calls) == 3
    with failing_server(1, text="half", is_stopping=True) as (target, _), make_client(target) as client:
        with pytest.raises(expertd.Unavailable):
            list(client.stream("A"))


def test_closing_a_client_cancels_its_calls(slow_server, expertd):
    client = expertd.Client(slow_server.target)
    stream = client.stream("Once", **LONG)
    next(stream)
    client.close()
    with pytest.raises(expertd.Cancelled):
        list(stream)


def test_the_last_failure_is_raised_with_the_servers_id_of_the_request(make_client, expertd):
    for method in ("generate", "stream"):
        with failing_server(9) as (target, calls), make_client(target, retry=expertd.Retry(2, **QUICK)) as client:
            with pytest.raises(expertd.Unavailable) as raised:
                list(getattr(client, method)("A"))
        assert raised.value.reason == "NOT_READY" and len(calls) == 2
        if method == "generate" or not isinstance(client, Blocking):  # grpc.aio may lose the metadata of such streams
            assert raised.value.request_id == "call-2"


def test_a_pause_beyond_the_timeout_is_not_waited_for(make_client, expertd):
    with failing_server(1, retry_delay=3600) as (target, calls), make_client(target, timeout=60) as client:
        with pytest.raises(expertd.Unavailable) as raised:
            client.generate("A")
    assert raised.value.retry_delay == 3600 and len(calls) == 1


def test_a_stream_that_gave_a_delta_is_not_begun_again(make_client, expertd):
    with failing_server(1, text="half") as (target, calls), make_client(
            target, retry=expertd.Retry(3, **QUICK)) as client:
        with pytest.raises(expertd.Unavailable) as raised:
            list(client.stream("A"))
    assert raised.value.request_id == "call-1" and len(calls) == 1


def test_a_stream_without_its_end_is_a_fault_of_the_server(make_client, expertd):
    with failing_server(0, has_summary=False) as (target, _), make_client(target) as client:
        with pytest.raises(expertd.Internal):
            list(client.stream("A"))


def retry_that_tells(expertd, event):
    """A Retry that sets `event` when a call has failed and its first pause begins."""
    class Telling(expertd.Retry):
        def pauses(self):
            event.set()
            yield from super().pauses()

    return Telling()


def test_closing_a_stream_ends_its_pause(expertd):
    pausing = threading.Event()
    with failing_server(9, retry_delay=60) as (target, _), expertd.Client(
            target, retry=retry_that_tells(expertd, pausing)) as client:
        stream = client.stream("A")
        with concurrent.futures.ThreadPoolExecutor() as threads:
            reader = threads.submit(next, stream)
            assert pausing.wait(30)
            stream.close()
            with pytest.raises(expertd.Cancelled):
                reader.result(30)


def test_closing_a_stream_in_asyncio_ends_its_pause_and_not_its_task(expertd):
    async def main(target):
        pausing = asyncio.Event()
        async with expertd.AsyncClient(target, retry=retry_that_tells(expertd, pausing)) as client:
            stream = client.stream("A")
            reader = asyncio.create_task(anext(stream))
            await asyncio.wait_for(pausing.wait(), 30)
            stream.close()
            with pytest.raises(expertd.Cancelled):
                await asyncio.wait_for(reader, 30)
            with pytest.raises(expertd.Cancelled):
                await anext(stream)

    with failing_server(9, retry_delay=60) as (target, _):
        asyncio.run(main(target))


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


def build(kind, folder, source):
    """Builds `source` as a front end of pip would; returns the archive."""
    code = f"import sys, setuptools.build_meta as backend; backend.build_{kind}(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=source, check=True, capture_output=True)
    [archive] = folder.glob("*.tar.gz" if kind == "sdist" else "*.whl")
    return archive


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The package's wheel, unpacked; built from its source archive, outside the repository."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(PACKAGE, folder / "clients/python", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    shutil.copytree(ROOT / "api", folder / "api")
    with tarfile.open(build("sdist", folder, folder / "clients/python")) as archive:
        archive.extractall(folder / "elsewhere", filter="data")
    [source] = (folder / "elsewhere").iterdir()
    with zipfile.ZipFile(build("wheel", folder, source)) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_package_asks_for_what_its_stubs_need(wheel):
    assert (wheel / "expertd/py.typed").exists() and (wheel / "expertd/v1/inference_pb2.pyi").exists()
    metadata = next(wheel.glob("*.dist-info/METADATA")).read_text()
    generator = re.search(r"GRPC_GENERATED_VERSION = '([\d.]+)'",
                          (wheel / "expertd/v1/inference_pb2_grpc.py").read_text())
    assert f"Requires-Dist: grpcio>={generator[1]}\n" in metadata
    major, minor, patch = re.search(r"PUBLIC,\s*(\d+),\s*(\d+),\s*(\d+)",
                                    (wheel / "expertd/v1/inference_pb2.py").read_text()).groups()
    assert re.search(rf"Requires-Dist: protobuf.*>={major}\.{minor}\.{patch}\b", metadata)


def test_the_package_is_typed(wheel):
    result = subprocess.run([sys.executable, "-m", "mypy", "--config-file", str(PACKAGE / "pyproject.toml"),
                             "--cache-dir", str(wheel.parent / "mypy"), "-p", "expertd"], cwd=wheel,
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_examples_of_the_readme(server, wheel):
    examples = re.findall(r"```python\n(.*?)```", (PACKAGE / "README.md").read_text(), re.DOTALL)
    assert len(examples) == 2
    outputs = []
    for example in examples:
        result = subprocess.run([sys.executable, "-c", example.replace("127.0.0.1:50051", server.target)],
                                env={"PYTHONPATH": str(wheel)}, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stderr
        outputs.append(result.stdout)
    assert "Paris" in outputs[0] and outputs[1].count("',") == 3
