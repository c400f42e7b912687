"""A real server and real Python clients: streams, errors, deadlines, cancellation, health, drain, many at once."""

import concurrent.futures
import contextlib
import signal
import threading
import time
import urllib.request

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from conftest import Server, error_details


@pytest.fixture(scope="module")
def pb():
    from expertd.v1 import inference_pb2
    return inference_pb2


def chat_request(pb, text, **sampling):
    request = pb.GenerateRequest(sampling=pb.SamplingParams(**sampling))
    request.chat.messages.add(role=pb.ROLE_USER).parts.add(text=text)
    return request


def token_request(pb, num_prompt, max_tokens, **sampling):
    request = pb.GenerateRequest(sampling=pb.SamplingParams(**sampling))
    request.tokens.ids.extend(300 + i % 700 for i in range(num_prompt))
    request.stop.max_tokens = max_tokens
    request.stop.ignore_eos = True
    return request


def test_a_stream_tells_its_events_in_order(server, pb):
    events = list(server.inference().StreamGenerate(chat_request(pb, "Hello!", temperature=0)))
    kinds = [event.WhichOneof("event") for event in events]

    assert kinds[0] == "accepted"
    assert kinds[1] == "prompt"
    assert set(kinds[2:-2]) == {"delta"}
    assert kinds[-2:] == ["finished", "summary"]
    assert events[-2].finished.finish_reason == pb.FINISH_REASON_STOP
    assert events[-1].summary.usage.completion_tokens == sum(e.delta.num_tokens for e in events)


def test_generate_equals_the_stream(server, pb):
    request = chat_request(pb, "Tell me a story.", temperature=0.8, seed=5)

    whole = server.inference().Generate(request)
    streamed = "".join(e.delta.text for e in server.inference().StreamGenerate(request))

    assert whole.candidates[0].text == streamed
    assert whole.candidates[0].seed == 5


def test_streamed_text_is_whole_characters_in_chinese(server, pb):
    deltas = [e.delta.text for e in server.inference().StreamGenerate(chat_request(pb, "你好！", temperature=0))]

    assert "".join(deltas).strip()
    assert all("\ufffd" not in text for text in deltas)


def test_n_candidates_with_logprobs(server, pb):
    request = token_request(pb, 20, 6, temperature=1, seed=3, n=3)
    request.output.token_ids = True
    request.output.logprobs.top_n = 2

    reply = server.inference().Generate(request)

    assert [c.index for c in reply.candidates] == [0, 1, 2]
    assert all(len(c.token_ids) == len(c.logprobs) == 6 for c in reply.candidates)
    assert all(len(entry.top) == 2 for c in reply.candidates for entry in c.logprobs)
    assert reply.usage.completion_tokens == 18


@pytest.mark.parametrize("change, code, reason", [
    (lambda r, pb: r.sampling.MergeFrom(pb.SamplingParams(temperature=float("nan"))), "INVALID_ARGUMENT", "INVALID_PARAMETER"),
    (lambda r, pb: r.sampling.MergeFrom(pb.SamplingParams(top_p=0)), "INVALID_ARGUMENT", "INVALID_PARAMETER"),
    (lambda r, pb: r.sampling.MergeFrom(pb.SamplingParams(n=1000000000)), "INVALID_ARGUMENT", "INVALID_PARAMETER"),
    (lambda r, pb: r.sampling.logit_bias.add(token_id=4000000000, bias=1), "INVALID_ARGUMENT", "INVALID_PARAMETER"),
    (lambda r, pb: r.stop.strings.append(""), "INVALID_ARGUMENT", "INVALID_PARAMETER"),
    (lambda r, pb: setattr(r, "model", "../../etc/passwd"), "NOT_FOUND", "MODEL_NOT_FOUND"),
    (lambda r, pb: r.tokens.ids.append(4294967295), "INVALID_ARGUMENT", "INVALID_PARAMETER"),
    (lambda r, pb: r.tokens.ids.extend([300] * 100000), "INVALID_ARGUMENT", "CONTEXT_LENGTH_EXCEEDED"),
    (lambda r, pb: setattr(r.structured, "structural_tag", "{}"), "UNIMPLEMENTED", "UNSUPPORTED_FEATURE"),
    (lambda r, pb: setattr(r, "adapter", "mine"), "UNIMPLEMENTED", "UNSUPPORTED_FEATURE"),
    (lambda r, pb: r.ClearField("tokens"), "INVALID_ARGUMENT", "INVALID_PARAMETER"),
])
@pytest.mark.parametrize("method", ["Generate", "StreamGenerate"])
def test_errors_carry_code_reason_and_field(server, pb, change, code, reason, method):
    request = token_request(pb, 5, 5)
    change(request, pb)

    with pytest.raises(grpc.RpcError) as raised:
        reply = getattr(server.inference(), method)(request)
        if method == "StreamGenerate":
            list(reply)

    assert raised.value.code().name == code
    found, details = error_details(raised.value)
    assert found == reason
    assert details["ErrorInfo"].domain == "expertd.inference"
    if reason == "INVALID_PARAMETER":
        assert details["BadRequest"].field_violations[0].field


def test_a_deadline_ends_decoding(server, pb):
    with pytest.raises(grpc.RpcError) as raised:
        list(server.inference().StreamGenerate(token_request(pb, 5, 1500), timeout=0.05))

    assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("method", ["Generate", "StreamGenerate"])
def test_calls_that_end_by_their_deadline_are_counted_as_such(slow_server, pb, method):
    counts = lambda: [slow_server.metric("expertd_requests_total", code=code)
                      for code in ("DEADLINE_EXCEEDED", "CANCELLED")]
    before = counts()

    for _ in range(20):
        with pytest.raises(grpc.RpcError):
            reply = getattr(slow_server.inference(), method)(token_request(pb, 5, 1500), timeout=0.05)
            if method == "StreamGenerate":
                list(reply)

    wait_for(lambda: sum(counts()) == sum(before) + 20)
    assert counts() == [before[0] + 20, before[1]]


def test_cancelling_frees_the_engine(server, pb):
    stream = server.inference().StreamGenerate(token_request(pb, 5, 1500))
    next(stream)
    next(stream)

    stream.cancel()

    wait_for(lambda: server.metric("expertd_requests_running") == 0)
    assert server.metric("expertd_requests_finished_total", reason="cancelled") >= 1


def test_abort_request_by_id(server, pb):
    from expertd.v1 import control_pb2, control_pb2_grpc
    request = token_request(pb, 5, 1500)
    request.request_id = "to-be-aborted"
    stream = server.inference().StreamGenerate(request)
    next(stream)

    control_pb2_grpc.ControlServiceStub(server.channel()).AbortRequest(
        control_pb2.AbortRequestRequest(request_ids=["to-be-aborted"]))

    with pytest.raises(grpc.RpcError) as raised:
        list(stream)
    assert raised.value.code() == grpc.StatusCode.CANCELLED
    assert error_details(raised.value)[0] == "ABORTED_BY_ADMIN"


def test_tokenizer_service_round_trips(server, pb):
    from expertd.v1 import tokenizer_pb2, tokenizer_pb2_grpc
    stub = tokenizer_pb2_grpc.TokenizerServiceStub(server.channel())

    tokenized = stub.Tokenize(tokenizer_pb2.TokenizeRequest(texts=["Hello, 世界 👋"]))
    back = stub.Detokenize(tokenizer_pb2.DetokenizeRequest(
        sequences=[pb.TokenInput(ids=tokenized.results[0].ids)]))

    assert back.texts[0] == "Hello, 世界 👋"


def test_model_and_server_info(server):
    from expertd.v1 import control_pb2, control_pb2_grpc, model_pb2, model_pb2_grpc
    model = model_pb2_grpc.ModelServiceStub(server.channel()).GetModel(model_pb2.GetModelRequest()).model
    info = control_pb2_grpc.ControlServiceStub(server.channel()).GetServerInfo(control_pb2.GetServerInfoRequest())

    assert model.name == info.model == "expertd-tiny"
    assert model.architecture == "Qwen3MoeForCausalLM"
    assert info.isa in ("scalar", "avx2", "avx2_vnni", "avx512", "avx512_bf16", "amx")
    assert info.num_kv_blocks > 0


def test_health_knows_its_names(server):
    stub = health_pb2_grpc.HealthStub(server.channel())
    serving = health_pb2.HealthCheckResponse.SERVING

    for name in ("", "liveness", "readiness", "startup", "expertd.v1.InferenceService", "expertd.v1.ControlService"):
        assert stub.Check(health_pb2.HealthCheckRequest(service=name)).status == serving, name
    with pytest.raises(grpc.RpcError) as raised:
        stub.Check(health_pb2.HealthCheckRequest(service="nobody"))
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND
    assert error_details(raised.value)[0] == "INVALID_PARAMETER"


def test_reflection_lists_and_resolves_the_contract(server):
    database = ProtoReflectionDescriptorDatabase(server.channel())

    assert {"expertd.v1.InferenceService", "expertd.v1.TokenizerService", "expertd.v1.ModelService",
            "expertd.v1.ControlService", "grpc.health.v1.Health"} <= set(database.get_services())
    assert database.FindFileContainingSymbol("expertd.v1.GenerateRequest").package == "expertd.v1"


def test_health_and_metrics_answer_while_a_long_prompt_is_computed(start_server, pb):
    server = start_server("--max-num-batched-tokens", "8192")
    health = health_pb2_grpc.HealthStub(server.channel())
    health.Check(health_pb2.HealthCheckRequest(service="readiness"))
    stop = threading.Event()

    def keep_busy():
        stub = server.inference()
        salt = 0
        while not stop.is_set():
            salt += 1
            calls = []
            for i in range(8):
                request = token_request(pb, 2000, 1)
                request.cache.salt = f"{salt}-{i}"
                calls.append(stub.Generate.future(request))
            for call in calls:
                call.result()

    worker = threading.Thread(target=keep_busy)
    worker.start()
    try:
        wait_for(lambda: server.metric("expertd_requests_running") > 0)
        times, scrapes = [], []
        for _ in range(40):
            start = time.monotonic()
            health.Check(health_pb2.HealthCheckRequest(service="readiness"))
            times.append(time.monotonic() - start)
            start = time.monotonic()
            server.scrape()
            scrapes.append(time.monotonic() - start)
    finally:
        stop.set()
        worker.join()

    # The median: one answer may be late for reasons that are the machine's own.
    assert sorted(times)[len(times) // 2] < 0.1, times
    assert sorted(scrapes)[len(scrapes) // 2] < 0.1, scrapes


def test_a_thousand_streams_at_once_all_complete(start_server, pb):
    server = start_server()
    channels = [server.channel() for _ in range(8)]
    stubs = [server.inference(channel) for channel in channels]
    list(stubs[0].StreamGenerate(token_request(pb, 16, 4)))
    before = server.rss_bytes()

    def call(i):
        request = token_request(pb, 16, 16, temperature=1, seed=i)
        return sum(e.delta.num_tokens for e in stubs[i % 8].StreamGenerate(request, timeout=300))

    with concurrent.futures.ThreadPoolExecutor(1000) as pool:
        counts = list(pool.map(call, range(1000)))

    assert counts == [16] * 1000
    assert server.rss_bytes() - before < 300 << 20


def test_a_reader_that_stalls_is_ended(start_server, pb):
    server = start_server("--stream-stall-timeout", "1s")
    # A small window that is never read: the transport fills up, then nothing moves.
    channel = server.channel([("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)])
    request = token_request(pb, 5, 1500, n=8, temperature=1)
    request.output.logprobs.top_n = 20
    stream = server.inference(channel).StreamGenerate(request)
    next(stream)

    wait_for(lambda: server.metric("expertd_requests_total", code="ABORTED") == 1, timeout=60)

    assert server.metric("expertd_requests_running") == 0


def test_sigterm_finishes_running_streams_and_exits_with_zero(start_server, pb):
    server = start_server("--shutdown-timeout", "30s")
    stream = server.inference().StreamGenerate(token_request(pb, 5, 800))
    next(stream)
    next(stream)
    watch = health_pb2_grpc.HealthStub(server.channel()).Watch(health_pb2.HealthCheckRequest(service="readiness"))
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING

    server.process.send_signal(signal.SIGTERM)
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    tokens = sum(e.delta.num_tokens for e in stream)

    assert tokens >= 798
    assert server.process.wait(30) == 0


def test_clients_of_a_draining_server_find_another(start_server, pb):
    """GOAWAY makes a client that keeps to one address connect anew, while a long stream still runs there."""
    first, second = start_server("--isa", "scalar"), start_server()
    addresses = ",".join(f"127.0.0.1:{server.target.rpartition(':')[2]}" for server in (first, second))
    with grpc.insecure_channel(f"ipv4:{addresses}") as channel:
        stub = first.inference(channel)
        running = stub.StreamGenerate(token_request(pb, 5, 600))
        next(running), next(running)

        def is_answered():
            answer = stub.Generate(token_request(pb, 5, 5), timeout=10, wait_for_ready=True)
            return answer.usage.completion_tokens == 5

        def has_moved():
            with contextlib.suppress(grpc.RpcError):  # gRPC cancels what reaches it at the very moment of GOAWAY
                is_answered()
            return second.metric("expertd_requests_total", code="OK") >= 1

        first.process.send_signal(signal.SIGTERM)
        wait_for(has_moved)
        assert all(is_answered() for _ in range(5))

        assert first.process.poll() is None
        wait_for(lambda: second.metric("expertd_requests_total", code="OK") >= 6)  # counted behind the answer
        assert list(running)[-1].WhichOneof("event") == "summary"
    assert first.process.wait(30) == 0


def test_sigterm_cuts_streams_off_after_the_timeout(start_server, pb):
    server = start_server("--shutdown-timeout", "100ms")
    streams = [server.inference().StreamGenerate(token_request(pb, 5, 1900)) for _ in range(32)]
    for stream in streams:
        next(stream)

    server.process.send_signal(signal.SIGTERM)

    with pytest.raises(grpc.RpcError) as raised:
        list(streams[0])
    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
    assert server.process.wait(30) == 0
    assert server.log_text().count("event=draining") == 1


def test_a_second_signal_ends_a_drain(start_server, pb):
    server = start_server("--shutdown-timeout", "5m", "--drain-delay", "1m")
    server.process.send_signal(signal.SIGTERM)
    wait_for(lambda: "event=draining" in server.log_text())

    server.process.send_signal(signal.SIGINT)

    assert server.process.wait(10) == 1


def test_a_second_sigterm_does_not_cut_running_streams(start_server, pb):
    server = start_server()
    stream = server.inference().StreamGenerate(token_request(pb, 5, 1500))
    next(stream), next(stream)

    server.process.send_signal(signal.SIGTERM)
    wait_for(lambda: "event=draining" in server.log_text())
    server.process.send_signal(signal.SIGTERM)
    last = list(stream)[-1]

    assert last.WhichOneof("event") == "summary"
    assert server.process.wait(30) == 0


def test_detailed_tokenizing_is_bounded(server):
    from expertd.v1 import tokenizer_pb2, tokenizer_pb2_grpc
    stub = tokenizer_pb2_grpc.TokenizerServiceStub(server.channel())

    with pytest.raises(grpc.RpcError) as raised:
        stub.Tokenize(tokenizer_pb2.TokenizeRequest(texts=["a" * (2 << 20)], offsets=True))

    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_api_keys_guard_the_services_but_not_health(start_server, pb, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("# operators\nfirst-secret-of-operators\nsecond-secret-of-operators\n")
    server = start_server("--api-key-file", str(keys))
    request = chat_request(pb, "Hello!", temperature=0)

    with pytest.raises(grpc.RpcError) as none:
        server.inference().Generate(request)
    with pytest.raises(grpc.RpcError) as wrong:
        server.inference().Generate(request, metadata=[("authorization", "Bearer third-secret-of-operators")])
    reply = server.inference().Generate(request, metadata=[("authorization", "Bearer second-secret-of-operators")])

    assert none.value.code() == wrong.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert error_details(wrong.value)[0] == "API_KEY_INVALID"
    assert reply.candidates[0].text
    assert "secret-of-operators" not in server.log_text()


def test_a_full_queue_says_so_and_when_to_come_again(start_server, pb):
    server = start_server("--max-num-seqs", "1", "--max-num-queued-reqs", "1")
    first = server.inference().StreamGenerate(token_request(pb, 5, 1900))
    next(first), next(first)
    second = server.inference().StreamGenerate(token_request(pb, 5, 5))
    next(second)

    with pytest.raises(grpc.RpcError) as raised:
        list(server.inference().StreamGenerate(token_request(pb, 5, 5)))

    reason, details = error_details(raised.value)
    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason == "QUEUE_FULL"
    assert details["RetryInfo"].retry_delay.ToMilliseconds() > 0
    first.cancel()
    second.cancel()


def test_same_bits_over_the_wire_after_a_restart(start_server, pb):
    request = token_request(pb, 100, 40, temperature=1, seed=99)
    request.output.token_ids = True
    request.output.logprobs.top_n = 3
    first = start_server().inference().Generate(request).candidates[0]

    second = start_server("--threads", "1", "--max-prefill-chunk", "7").inference().Generate(request).candidates[0]

    assert first.token_ids == second.token_ids
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def wait_for(condition, timeout=30):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "condition not met in time"
        time.sleep(0.02)
