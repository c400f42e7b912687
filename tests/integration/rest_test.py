"""REST as OpenAI's own client and raw HTTP see it: the same answers as over gRPC, OpenAI's errors, limits that hold."""

import contextlib
import http.client
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request

import openai
import pytest

from conftest import BINARY, MODEL, Server, free_port

NAME = MODEL.name
GREETING = [{"role": "user", "content": "Hello!"}]


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"http://127.0.0.1:{server.rest_port}/v1", api_key="none", max_retries=0) as client:
        yield client


def post(server, path, body, content_type="application/json", **headers):
    """POSTs `body` (bytes, or something to make JSON of); returns (status, headers, JSON of the answer)."""
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, data, {"content-type": content_type, **headers})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, dict(answer.headers), json.loads(text)


def get(server, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.rest_port}{path}", timeout=30) as answer:
        return answer.status, dict(answer.headers), answer.read()


def raw(server, request):
    """Sends bytes; returns all that comes back until the connection ends."""
    with socket.create_connection(("127.0.0.1", server.rest_port), timeout=60) as sock:
        sock.sendall(request)
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    return answer


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def pb():
    from expertd.v1 import inference_pb2
    return inference_pb2


# Small endpoints.


def test_health_and_version(server):
    status, headers, body = get(server, "/health")
    assert (status, body) == (200, b"")
    assert headers["x-request-id"]
    assert json.loads(get(server, "/version")[2])["version"]


def test_models(server, client):
    [model] = client.models.list().data
    assert model.id == NAME and model.object == "model" and model.created > 0
    assert client.models.retrieve(NAME).max_model_len == model.max_model_len > 0
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("org/other")  # a slash in the name
    assert error.value.code == "model_not_found" and "org/other" in error.value.message


def test_metrics_are_the_servers(server):
    status, headers, body = get(server, "/metrics")
    assert status == 200 and headers["Content-Type"].startswith("text/plain")
    assert b"expertd_ready" in body


def test_unknown_paths_and_methods(server):
    assert post(server, "/v1/nothing", {})[0] == 404
    status, headers, body = post(server, "/health", {})
    assert status == 405 and headers["allow"] == "GET"
    assert body["error"]["type"] == "invalid_request_error"


def test_request_ids_come_back(server):
    assert post(server, "/tokenize", {"prompt": "a"}, **{"x-request-id": "my-id.1"})[1]["x-request-id"] == "my-id.1"
    made = post(server, "/tokenize", {"prompt": "a"}, **{"x-request-id": "not an id"})[1]["x-request-id"]
    assert made.startswith("req-")


# Chat.


def test_chat_is_what_grpc_answers(server, client, pb):
    answer = client.chat.completions.create(model=NAME, messages=GREETING, temperature=0, max_tokens=20)
    request = pb.GenerateRequest(sampling=pb.SamplingParams(temperature=0))
    request.chat.messages.add(role=pb.ROLE_USER).parts.add(text="Hello!")
    request.stop.max_tokens = 20
    expected = server.inference().Generate(request)

    [choice] = answer.choices
    assert choice.message.role == "assistant" and choice.message.content == expected.candidates[0].text
    assert answer.usage.prompt_tokens == expected.usage.prompt_tokens
    assert answer.usage.completion_tokens == expected.usage.completion_tokens
    assert answer.usage.total_tokens == expected.usage.total_tokens
    assert answer.system_fingerprint == expected.system_fingerprint
    assert answer.id.startswith("chatcmpl-") and answer.object == "chat.completion"
    assert answer._request_id and answer.id == "chatcmpl-" + answer._request_id


def test_a_chat_stream_is_the_whole_answer_in_pieces(client):
    settings = dict(model=NAME, messages=GREETING, temperature=1, seed=7, max_tokens=30, n=2)
    whole = client.chat.completions.create(**settings)
    chunks = list(client.chat.completions.create(**settings, stream=True, stream_options={"include_usage": True}))

    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    assert all(chunk.usage is None and len(chunk.choices) == 1 for chunk in chunks[:-1])
    for choice in whole.choices:
        mine = [chunk.choices[0] for chunk in chunks[:-1] if chunk.choices[0].index == choice.index]
        assert "".join(piece.delta.content or "" for piece in mine) == choice.message.content
        assert mine[0].delta.role == "assistant" and mine[0].delta.content
        assert [piece.finish_reason for piece in mine] == [None] * (len(mine) - 1) + [choice.finish_reason]


def test_stop_and_length(client):
    plain = client.chat.completions.create(model=NAME, messages=GREETING, temperature=0, max_tokens=20)
    text = plain.choices[0].message.content
    stopped = client.chat.completions.create(model=NAME, messages=GREETING, temperature=0, max_tokens=20,
                                             stop=text[3:6])
    short = client.chat.completions.create(model=NAME, messages=GREETING, temperature=0, max_completion_tokens=2,
                                           extra_body={"ignore_eos": True})

    assert stopped.choices[0].message.content == text[:text.index(text[3:6])]
    assert stopped.choices[0].finish_reason == "stop"
    assert short.choices[0].finish_reason == "length" and short.usage.completion_tokens == 2


def test_chat_logprobs(client):
    settings = dict(model=NAME, messages=GREETING, temperature=0, max_tokens=5, logprobs=True, top_logprobs=2)
    whole = client.chat.completions.create(**settings).choices[0]
    streamed = [chunk.choices[0].logprobs for chunk in client.chat.completions.create(**settings, stream=True)]
    pieces = [token for logprobs in streamed if logprobs for token in logprobs.content]

    assert pieces == whole.logprobs.content
    for token in pieces:
        assert len(token.top_logprobs) == 2
        assert token.top_logprobs[0].logprob == token.logprob <= 0  # greedy takes the likeliest
        assert bytes(token.bytes).decode("utf-8", "replace") == token.token


def test_a_client_that_goes_ends_its_generation(server, client):
    stream = client.chat.completions.create(model=NAME, messages=GREETING, max_tokens=1500, stream=True,
                                            extra_body={"ignore_eos": True})
    next(iter(stream))
    stream.close()

    wait_until(lambda: not server.metric("expertd_requests_running"))
    assert server.metric("expertd_requests_finished_total", reason="cancelled") >= 1


# Completions.


def test_the_four_forms_of_a_prompt(server, client):
    texts = ["One two", "Three four"]
    ids = [post(server, "/tokenize", {"prompt": text})[2]["tokens"] for text in texts]
    def answers(prompt):
        answer = client.completions.create(model=NAME, prompt=prompt, temperature=0, max_tokens=8)
        assert [choice.index for choice in answer.choices] == list(range(len(answer.choices)))
        return [choice.text for choice in answer.choices]

    both = answers(texts)
    assert len(both) == 2
    assert answers(ids) == both
    assert answers(texts[0]) == answers(ids[0]) == both[:1]


def test_streams_of_several_prompts_and_candidates(client):
    settings = dict(model=NAME, prompt=["One two", "Three four"], temperature=1, seed=3, max_tokens=12, n=2)
    whole = client.completions.create(**settings)
    chunks = list(client.completions.create(**settings, stream=True, stream_options={"include_usage": True}))

    assert chunks[-1].usage == whole.usage
    texts = [""] * 4
    for chunk in chunks[:-1]:
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [choice.text for choice in whole.choices]


def test_echo_with_logprobs_as_evaluation_harnesses_read_them(server, client):
    ids = [post(server, "/tokenize", {"prompt": text})[2]["tokens"] for text in ("The sky is blue", "One, two, three")]
    answer = client.completions.create(model=NAME, prompt=ids, max_tokens=1, echo=True, logprobs=1, temperature=0,
                                       seed=1234)

    for prompt, choice in zip(ids, answer.choices):
        logprobs = choice.logprobs
        assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs) == len(prompt) + 1
        assert logprobs.token_logprobs[0] is None and logprobs.top_logprobs[0] is None
        for token, logprob, top in list(zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs))[1:]:
            assert top[token] == logprob <= max(top.values())
        for token, offset in zip(logprobs.tokens, logprobs.text_offset):
            assert choice.text[offset:].startswith(token)


# Tokens.


def test_tokenize_and_detokenize(server):
    tokens = post(server, "/tokenize", {"prompt": "Hello, 你好", "return_token_strs": True})[2]
    assert tokens["count"] == len(tokens["tokens"]) == len(tokens["token_strs"]) and tokens["max_model_len"] > 0
    assert post(server, "/detokenize", {"tokens": tokens["tokens"]})[2] == {"prompt": "Hello, 你好"}
    chat = post(server, "/tokenize", {"messages": GREETING})[2]
    usage = post(server, "/v1/chat/completions", {"messages": GREETING, "max_tokens": 1})[2]["usage"]
    assert chat["count"] == usage["prompt_tokens"] and chat["max_model_len"] == tokens["max_model_len"]


# Errors.


def test_errors_are_the_clients_own_classes(client):
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="other", messages=GREETING)
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model=NAME, messages=GREETING, temperature=3)
    assert error.value.param == "temperature" and error.value.code == "invalid_parameter"
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model=NAME, messages=GREETING, max_tokens=10**6, stream=True)
    assert error.value.code == "context_length_exceeded"


@pytest.mark.parametrize("prompt", ["a", [66], "a b"])
def test_the_prompts_first_token_has_an_entry_in_logprobs(client, prompt):
    options = {"model": NAME, "prompt": prompt, "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0}
    [whole] = client.completions.create(**options).choices
    pieces = [chunk.choices[0].logprobs for chunk in client.completions.create(stream=True, **options)
              if chunk.choices and chunk.choices[0].logprobs]

    assert "".join(whole.logprobs.tokens) == whole.text
    assert len(whole.logprobs.tokens) >= 2 and whole.logprobs.token_logprobs[0] is None
    assert sum((piece.tokens for piece in pieces), []) == whole.logprobs.tokens


def test_a_form_that_is_misspelt_is_refused(client):
    for form in [{"regexp": "a"}, {"structural_tag": "{}"}]:
        with pytest.raises(openai.BadRequestError) as error:
            client.completions.create(model=NAME, prompt="a", max_tokens=2, extra_body={"structured_outputs": form})
        assert error.value.param == f"structured_outputs.{next(iter(form))}"


def test_a_full_queue_says_when_to_come_again(start_server):
    server = start_server("--max-num-seqs", "1", "--max-num-queued-reqs", "1", "--isa", "scalar")
    body = {"prompt": "a", "max_tokens": 1500, "ignore_eos": True, "stream": True}
    streams = []
    try:
        for gauge in ("expertd_requests_running", "expertd_requests_waiting"):
            streams.append(http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60))
            streams[-1].request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
            wait_until(lambda: server.metric(gauge) == 1)
        status, headers, answer = post(server, "/v1/completions", body)
    finally:
        for stream in streams:
            stream.close()

    assert status == 429 and answer["error"]["code"] == "queue_full"
    assert int(headers["retry-after"]) >= 1 and int(headers["retry-after-ms"]) >= 1


def test_keys_are_the_servers(start_server, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("0123456789abcdef0123\n")
    server = start_server("--api-key-file", str(keys))
    def models(key):
        with openai.OpenAI(base_url=f"http://127.0.0.1:{server.rest_port}/v1", api_key=key, max_retries=0) as client:
            return client.models.list().data

    assert len(models("0123456789abcdef0123")) == 1
    with pytest.raises(openai.AuthenticationError) as error:
        models("wrong-key-of-some-length")
    assert error.value.code == "invalid_api_key"
    assert get(server, "/health")[0] == 200  # probes have no key


@pytest.mark.parametrize("body, message", [
    (b"", "not valid JSON"),
    (b"{", "not valid JSON"),
    (b"[]", "must be an object"),
    (b'{"prompt": "\xff"}', "not valid JSON"),
    (b'{"prompt": ' + b"[" * 100 + b"]" * 100 + b"}", "nested"),
    (b'{"prompt": [' + b"[]," * 200_000 + b"[]]}", "more than"),
    (b'{"prompt": "a", "max_tokens": "many"}', "max_tokens is \"many\""),
])
def test_bad_bodies_are_answered(server, body, message):
    status, _, answer = post(server, "/v1/completions", body)

    assert status == 400
    assert message in answer["error"]["message"]


def test_the_last_of_two_equal_keys_counts(server):
    status, _, answer = post(server, "/v1/completions",
                             b'{"prompt": "a", "max_tokens": 9, "max_tokens": 2, "ignore_eos": true}')

    assert status == 200 and answer["usage"]["completion_tokens"] == 2


def test_other_content_types_are_refused(server):
    for content_type in ("text/plain", ""):  # a browser sends both to a foreign server without asking it
        status, _, answer = post(server, "/v1/completions", {"prompt": "a"}, content_type=content_type)
        assert status == 415 and "application/json" in answer["error"]["message"]


# HTTP itself; the unit tests of the HTTP server have more.


def test_idle_connections_leave_room_for_grpc(tmp_path):
    """Out of descriptors, gRPC would never accept again."""
    limited = tmp_path / "limited"
    limited.write_text(f'#!/bin/sh\nulimit -n 256\nexec {BINARY} "$@"\n')
    limited.chmod(0o755)
    server = Server(tmp_path / "log", binary=limited)
    try:
        idle = [socket.create_connection(("127.0.0.1", server.rest_port), timeout=10) for _ in range(300)]
        server.wait_ready(timeout=20)  # by a new connection
        for connection in idle:
            connection.close()
    finally:
        assert server.stop() == 0


def test_chunked_pipelined_and_old_requests(server):
    chunked = (b"POST /tokenize HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
               b"8\r\n{\"prompt\r\n7\r\n\": \"a\"}\r\n0\r\n\r\n")
    answer = raw(server, chunked + b"GET /health HTTP/1.1\r\nhost: x\r\n\r\nGET /version HTTP/1.0\r\n\r\n")

    assert answer.count(b"HTTP/1.1 200 OK") == 2 and answer.count(b"HTTP/1.0 200 OK") == 1
    assert answer.index(b'"tokens"') < answer.index(b'"version"')


def test_a_stream_over_http_1_0_has_no_chunks(server):
    body = json.dumps({"prompt": "a", "max_tokens": 3, "stream": True, "ignore_eos": True}).encode()
    answer = raw(server, b"POST /v1/completions HTTP/1.0\r\ncontent-type: application/json\r\n"
                 b"content-length: %d\r\n\r\n" % len(body) + body)

    head, _, events = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert events.startswith(b"data: {") and events.endswith(b"data: [DONE]\n\n")


def test_bodies_that_are_too_large_are_refused_unread(server):
    answer = raw(server, b"POST /tokenize HTTP/1.1\r\nhost: x\r\ncontent-length: 9999999999\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"invalid_request_error"' in answer


# Ways to run it.


def test_the_shim_alone(server):
    port = free_port()
    process = subprocess.Popen([str(BINARY), "rest", "--target", server.target, "--port", str(port), "--metrics-target",
                                f"127.0.0.1:{server.metrics_port}"], stderr=subprocess.PIPE, text=True)
    try:
        assert any("event=serving" in line for line in process.stderr)
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client:
            assert client.chat.completions.create(model=NAME, messages=GREETING, max_tokens=3).choices
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as page:
            assert b"expertd_ready" in page.read()
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def test_without_a_server_it_says_so():
    port, nowhere = free_port(), free_port()
    process = subprocess.Popen([str(BINARY), "rest", "--target", f"127.0.0.1:{nowhere}", "--port", str(port)],
                               stderr=subprocess.PIPE, text=True)
    try:
        assert any("event=serving" in line for line in process.stderr)
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=30)
        assert error.value.code == 503
    finally:
        process.kill()
        process.wait()


def test_serve_without_rest(start_server):
    server = start_server("--no-rest")

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.rest_port), timeout=10)


def test_a_refusal_while_draining_closes_the_connection(start_server):
    server = start_server("--isa", "scalar")
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60)) as running, \
            contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60)) as late:
        headers = {"content-type": "application/json"}
        body = {"prompt": "a", "max_tokens": 300, "ignore_eos": True, "stream": True}
        running.request("POST", "/v1/completions", json.dumps(body), headers)
        stream = running.getresponse()
        stream.readline()
        server.process.terminate()
        refused = None
        while refused is None or refused.status == 200:  # some may come before the signal
            late.request("POST", "/v1/completions", json.dumps({"prompt": "a", "max_tokens": 1}), headers)
            refused = late.getresponse()
            error = json.loads(refused.read()).get("error")

        assert refused.status == 503 and refused.getheader("connection") == "close"
        assert error["code"] == "draining"
        assert b"[DONE]" in stream.read()


def test_a_drain_lets_streams_end(start_server):
    server = start_server()
    with openai.OpenAI(base_url=f"http://127.0.0.1:{server.rest_port}/v1", api_key="none", max_retries=0) as client:
        stream = client.chat.completions.create(model=NAME, messages=GREETING, max_tokens=200, stream=True,
                                                extra_body={"ignore_eos": True})
        chunks = iter(stream)
        next(chunks)
        server.process.terminate()
        last = [chunk for chunk in chunks][-1]

    assert last.choices[0].finish_reason == "length"
    assert server.stop() == 0
