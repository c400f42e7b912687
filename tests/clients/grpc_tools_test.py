"""grpcurl, ghz and grpc_health_probe against a real server. Run where Go is installed."""

import json
import shutil
import subprocess

import pytest

from conftest import ROOT

TOOLS = ROOT / "build/go/bin"

pytestmark = pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed: its tools are not tested")


def tool(name, *arguments, check=True):
    result = subprocess.run([TOOLS / name, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert not check or result.returncode == 0, result.stdout + result.stderr
    return result


def test_grpcurl_lists_describes_and_calls(server):
    listed = tool("grpcurl", "-plaintext", server.target, "list").stdout.split()
    assert {"expertd.v1.InferenceService", "expertd.v1.ControlService", "grpc.health.v1.Health"} <= set(listed)
    described = tool("grpcurl", "-plaintext", server.target, "describe", "expertd.v1.SamplingParams").stdout
    assert "optional float temperature" in described

    question = {"chat": {"messages": [{"role": "ROLE_USER", "parts": [{"text": "What is the capital of France?"}]}]},
                "sampling": {"temperature": 0}}
    method = "expertd.v1.InferenceService/"
    answer = json.loads(tool("grpcurl", "-plaintext", "-d", json.dumps(question), server.target,
                             method + "Generate").stdout)
    assert "Paris" in answer["candidates"][0]["text"] and answer["usage"]["prompt_tokens"] > 0
    events = tool("grpcurl", "-plaintext", "-d", json.dumps(question), server.target, method + "StreamGenerate").stdout
    assert '"delta"' in events and '"FINISH_REASON_STOP"' in events and '"summary"' in events


def test_grpcurl_shows_the_details_of_errors(server):
    wrong = {"text": {"text": "A"}, "sampling": {"temperature": 9}}
    failed = tool("grpcurl", "-plaintext", "-d", json.dumps(wrong), server.target,
                  "expertd.v1.InferenceService/Generate", check=False)
    assert failed.returncode != 0
    assert "INVALID_PARAMETER" in failed.stderr and "sampling.temperature" in failed.stderr


@pytest.mark.parametrize("method", ["Generate", "StreamGenerate"])
def test_ghz_has_no_error_in_200_calls(server, method):
    data = {"text": {"text": "Once"}, "stop": {"max_tokens": 8}, "sampling": {"seed": 1}}
    report = json.loads(tool("ghz", "--insecure", "--call", f"expertd.v1.InferenceService.{method}", "-d",
                             json.dumps(data), "-n", 200, "-c", 20, "--format", "json", server.target).stdout)
    assert report["count"] == 200 and report["statusCodeDistribution"] == {"OK": 200}


def test_grpc_health_probe(server):
    for service in ["", "readiness", "liveness", "startup"]:
        assert "SERVING" in tool("grpc-health-probe", "-addr", server.target, "-service", service).stderr
    unknown = tool("grpc-health-probe", "-addr", server.target, "-service", "nobody", check=False)
    assert unknown.returncode == 3 and "NotFound" in unknown.stderr
