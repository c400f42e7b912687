"""What the Python tests share: the built binary, generated stubs, and real servers on free ports."""

import contextlib
import os
import pathlib
import pty
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from prometheus_client.parser import text_string_to_metric_families

ROOT = pathlib.Path(__file__).resolve().parents[1]
BINARY = ROOT / "build/release/bin/expertd"
MODEL = ROOT / "models/expertd-tiny"


def pytest_configure(config):
    """Builds the Python client, whose stubs all tests use, once per change of it or of the contract."""
    package = ROOT / "clients/python"
    target, sources = ROOT / "build/python", [*package.rglob("*.py"), *(ROOT / "api/expertd/v1").glob("*.proto")]
    stamp = target / "stamp"
    if not stamp.exists() or any(path.stat().st_mtime > stamp.stat().st_mtime for path in sources):
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(package / "src", target)
        subprocess.run([sys.executable, str(package / "generate_stubs.py"), str(target)], check=True)
        stamp.touch()
    sys.path.insert(0, str(target))


_ports = iter(random.sample(range(15000, 32000), 17000))


def free_port():
    """A port that nobody listens on; each only once, and none that the system gives to outgoing connections."""
    for port in _ports:
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port is free")


class Server:
    """A running `expertd serve`."""

    def __init__(self, log_path, model=MODEL, flags=(), wait=True, binary=BINARY):
        self.port, self.metrics_port, self.rest_port = free_port(), free_port(), free_port()
        self.target = f"127.0.0.1:{self.port}"
        self.log_path = log_path
        self.log = open(log_path, "wb")
        self.process = subprocess.Popen(
            [str(binary), "serve", str(model), "--grpc-listen", self.target, "--metrics-listen",
             f"127.0.0.1:{self.metrics_port}", "--port", str(self.rest_port), *flags], stderr=self.log, stdout=self.log)
        if wait:
            self.wait_ready()

    def wait_ready(self, timeout=60):
        from grpc_health.v1 import health_pb2, health_pb2_grpc
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"server ended with {self.process.returncode}:\n{self.log_text()}")
            with contextlib.suppress(grpc.RpcError), self.channel() as channel:
                reply = health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(service="readiness"), timeout=2)
                if reply.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"server not ready:\n{self.log_text()}")

    def channel(self, options=()):
        return grpc.insecure_channel(self.target, options=[("grpc.use_local_subchannel_pool", 1), *options])

    def inference(self, channel=None):
        from expertd.v1 import inference_pb2_grpc
        return inference_pb2_grpc.InferenceServiceStub(channel or self.channel())

    def scrape(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as reply:
            return reply.read().decode()

    def metric(self, name, **labels):
        """Sum of the samples of `name` whose labels contain `labels`."""
        total = 0.0
        for family in text_string_to_metric_families(self.scrape()):
            for sample in family.samples:
                if sample.name == name and all(sample.labels.get(k) == v for k, v in labels.items()):
                    total += sample.value
        return total

    def rss_bytes(self):
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) * 1024

    def log_text(self):
        return pathlib.Path(self.log_path).read_text(errors="replace")

    def stop(self, timeout=60):
        """SIGTERM; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self.log.close()


@pytest.fixture
def start_server(tmp_path):
    """Starts servers with given flags; stops them after the test."""
    servers = []

    def start(*flags, **kwargs):
        servers.append(Server(tmp_path / f"server{len(servers)}.log", flags=flags, **kwargs))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server with default settings for all tests of a module."""
    running = Server(tmp_path_factory.mktemp("server") / "server.log")
    yield running
    code = running.stop()
    assert code == 0, running.log_text()


@pytest.fixture(scope="module")
def slow_server(tmp_path_factory):
    """One whose long answers take seconds on any machine, for tests of what ends them early."""
    running = Server(tmp_path_factory.mktemp("slow_server") / "server.log", flags=["--isa", "scalar"])
    yield running
    code = running.stop()
    assert code == 0, running.log_text()


def run(*arguments, check=True, timeout=120, **kwargs):
    """Runs `expertd ARGUMENTS...`; returns the CompletedProcess with text output."""
    result = subprocess.run([str(BINARY), *map(str, arguments)], capture_output=True, text=True, timeout=timeout, **kwargs)
    if check:
        assert result.returncode == 0, f"expertd {arguments}\n{result.stdout}\n{result.stderr}"
    return result


def terminal_output(*arguments):
    """What `expertd ARGUMENTS` writes when its standard output is a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([str(BINARY), *map(str, arguments)], stdout=theirs, stdin=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    os.close(theirs)
    output = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while chunk := os.read(ours, 4096):
            output += chunk
    os.close(ours)
    assert process.wait(60) == 0
    return output


def error_details(error):
    """(reason, {type name: detail}) of a failed call, decoded by Google's own classes."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(value)
            assert status.code == error.code().value[0]
            details = {}
            for packed in status.details:
                name = packed.type_url.rpartition(".")[2]
                message = getattr(error_details_pb2, name)()
                assert packed.Unpack(message)
                details[name] = message
            return details["ErrorInfo"].reason, details
    return None, {}
