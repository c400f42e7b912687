"""Metrics of a real server: promtool's lint, and counters that add up to what was sent."""

import shutil
import subprocess
import time

import grpc
import pytest

from conftest import ROOT


@pytest.fixture(scope="module")
def pb():
    from expertd.v1 import inference_pb2
    return inference_pb2


def token_request(pb, num_prompt, max_tokens, salt="", **sampling):
    request = pb.GenerateRequest(sampling=pb.SamplingParams(**sampling))
    request.tokens.ids.extend(300 + i % 700 for i in range(num_prompt))
    request.stop.max_tokens = max_tokens
    request.stop.ignore_eos = True
    request.cache.salt = salt
    return request


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def settle(server):
    """Waits until every call and sequence has been counted."""
    wait_until(lambda: not server.metric("expertd_requests_running") and not server.metric("expertd_streams_open"))


def test_promtool_finds_nothing_to_say(server):
    promtool = shutil.which("promtool") or ROOT / "build/prometheus/usr/bin/promtool"

    result = subprocess.run([promtool, "check", "metrics"], input=server.scrape(), capture_output=True, text=True, timeout=60)

    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr.strip() == "" and result.stdout.strip() == ""


def test_counters_reconcile_with_what_was_sent(start_server, pb):
    server = start_server("--max-num-seqs", "4", "--max-num-queued-reqs", "2")
    stub = server.inference()
    for i in range(5):  # ends by length
        list(stub.StreamGenerate(token_request(pb, 40, 10, salt=f"a{i}")))
    stub.Generate(token_request(pb, 33, 7, salt="b", n=3, temperature=1))  # three candidates, one prompt
    for _ in range(2):  # invalid
        with pytest.raises(grpc.RpcError):
            stub.Generate(token_request(pb, 5, 5, temperature=-1))
    cancelled = stub.StreamGenerate(token_request(pb, 20, 1900, salt="c"))
    next(cancelled), next(cancelled)
    cancelled.cancel()
    settle(server)
    running = [stub.StreamGenerate(token_request(pb, 10, 1900, salt=f"d{i}")) for i in range(4)]
    for stream in running:
        next(stream), next(stream)
    waiting = [stub.StreamGenerate(token_request(pb, 10, 1900, salt=f"e{i}")) for i in range(2)]
    for stream in waiting:
        next(stream)
    with pytest.raises(grpc.RpcError):  # queue full
        list(stub.StreamGenerate(token_request(pb, 10, 5, salt="f")))
    for stream in waiting:  # first, so that they never leave the queue
        stream.cancel()
    wait_until(lambda: server.metric("expertd_requests_waiting") == 0)
    for stream in running:
        stream.cancel()
    settle(server)

    method = "expertd.v1.InferenceService/"
    stream, unary = {"method": method + "StreamGenerate"}, {"method": method + "Generate"}
    assert server.metric("expertd_requests_total", code="OK", **stream) == 5
    assert server.metric("expertd_requests_total", code="OK", **unary) == 1
    assert server.metric("expertd_requests_total", code="INVALID_ARGUMENT", **unary) == 2
    assert server.metric("expertd_requests_total", code="CANCELLED", **stream) == 7
    assert server.metric("expertd_requests_total", code="RESOURCE_EXHAUSTED", **stream) == 1
    assert server.metric("expertd_requests_total", **stream) == 13
    assert server.metric("expertd_requests_total", **unary) == 3
    assert server.metric("expertd_requests_finished_total", reason="length") == 5 + 3
    assert server.metric("expertd_requests_finished_total", reason="cancelled") == 7
    assert server.metric("expertd_requests_rejected_total", reason="invalid") == 2
    assert server.metric("expertd_requests_rejected_total", reason="queue_full") == 1
    assert server.metric("expertd_prompt_tokens_total") == 5 * 40 + 33 + 20 + 6 * 10
    assert server.metric("expertd_generated_tokens_total") - server.metric(
        "expertd_wasted_tokens_total", reason="cancelled") == 5 * 10 + 3 * 7
    assert server.metric("expertd_time_to_first_token_seconds_count") == server.metric(
        "expertd_requests_finished_total") - 2  # all but those that never left the queue
    assert server.metric("expertd_queue_seconds_count") == 15
    assert server.metric("expertd_kv_cache_blocks", state="used") == 0


def test_prefix_cache_is_asked_once_a_request(start_server, pb):
    server = start_server()
    request = token_request(pb, 100, 3, temperature=1, n=4)
    for _ in range(2):
        server.inference().Generate(request)
    settle(server)

    assert server.metric("expertd_prefix_cache_queries_total") == 2 * 100
    assert server.metric("expertd_prefix_cache_hits_total") == 96  # the second request's whole blocks
    assert server.metric("expertd_prompt_tokens_total") == 2 * 100


def test_every_stage_of_a_conversation_is_measured(start_server, pb):
    server = start_server()
    request = pb.GenerateRequest(sampling=pb.SamplingParams(n=2))
    request.chat.messages.add(role=pb.ROLE_USER).parts.add(text="Hello!")
    request.stop.max_tokens = 4
    server.inference().Generate(request)
    settle(server)

    def count(stage):
        return server.metric("expertd_stage_seconds_count", stage=stage)
    assert {stage: count(stage) for stage in ("validate", "template", "tokenize", "detokenize")} == {
        "validate": 1, "template": 1, "tokenize": 1, "detokenize": 1}
    assert {stage: count(stage) for stage in ("queue", "prefill", "decode")} == {
        "queue": 2, "prefill": 2, "decode": 2}  # once a candidate
    assert server.metric("expertd_stage_seconds_sum", stage="detokenize") > 0


def test_the_build_tells_its_commit(server):
    from expertd.v1 import control_pb2, control_pb2_grpc
    info = control_pb2_grpc.ControlServiceStub(server.channel()).GetServerInfo(control_pb2.GetServerInfoRequest())

    assert info.git_commit
    assert server.metric("expertd_build_info", version=info.version, commit=info.git_commit) == 1


def test_vllm_names_tell_the_same(start_server, pb):
    server = start_server("--metrics-compat", "vllm")
    stub = server.inference()
    for i in range(3):
        stub.Generate(token_request(pb, 40, 10, salt=str(i)))
    settle(server)

    assert server.metric("vllm:prompt_tokens_total") == server.metric("expertd_prompt_tokens_total") == 120
    assert server.metric("vllm:generation_tokens_total") == server.metric("expertd_generated_tokens_total") == 30
    assert server.metric("vllm:request_success_total", finished_reason="length") == 3
    assert server.metric("vllm:time_to_first_token_seconds_count") == 3
    assert server.metric("vllm:e2e_request_latency_seconds_count") == 3
    for name in ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
                 "vllm:cache_config_info"):
        assert name in server.scrape()


def test_default_names_are_ours_alone(server):
    assert "vllm:" not in server.scrape()
