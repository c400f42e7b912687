"""The Go module against real servers, its stubs against the contract. Runs where Go is installed."""

import filecmp
import os
import re
import shutil
import subprocess

import pytest

from conftest import ROOT, Server, free_port

MODULE = ROOT / "clients/go"
LATE = "TestAServerThatStartsLateIsWaitedFor"

pytestmark = pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed: the Go client is not tested")


def go(*arguments, cwd=MODULE, **environment):
    result = subprocess.run(["go", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=300,
                            env={**os.environ, **environment})
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_client(slow_server):
    output = go("test", "-v", "-count=1", "./...", EXPERTD_TARGET=slow_server.target,
                EXPERTD_NOBODY=f"127.0.0.1:{free_port()}")
    sources = "".join(path.read_text() for path in MODULE.glob("*_test.go"))
    written = set(re.findall(r"^func (Test\w+|Example)", sources, re.MULTILINE))
    assert set(re.findall(r"^--- PASS: (\w+)", output, re.MULTILINE)) == written - {LATE}, output


def test_a_late_server_with_tls_and_keys(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("secret-key-0123456789\n")
    generator = f"{go('env', 'GOROOT').strip()}/src/crypto/tls/generate_cert.go"
    go("run", generator, "--host=127.0.0.1", "--ca", cwd=tmp_path)
    certificate = tmp_path / "cert.pem"
    late = Server(tmp_path / "log", wait=False, flags=["--api-key-file", keys, "--ssl-certfile", certificate,
                                                       "--ssl-keyfile", tmp_path / "key.pem"])
    try:
        output = go("test", "-v", "-count=1", "-run", LATE, ".", EXPERTD_TARGET=late.target,
                    EXPERTD_KEY="secret-key-0123456789", EXPERTD_CA=str(certificate))
        assert "--- PASS" in output
    finally:
        late.stop()


def test_the_example(server, tmp_path):
    readme = (MODULE / "README.md").read_text()
    [example] = re.findall(r"```go\n(.*?)```", readme, re.DOTALL)
    (tmp_path / "main.go").write_text(example.replace("127.0.0.1:50051", server.target))
    go("mod", "init", "example", cwd=tmp_path)
    for command in re.findall(r"^    go (.*)$", readme, re.MULTILINE):
        go(*command.replace("PATH/TO/clients/go", str(MODULE)).split(), cwd=tmp_path)
    output = go("run", ".", cwd=tmp_path)
    assert "Paris" in output and "INVALID_PARAMETER sampling.temperature" in output


def test_the_code_is_formatted_and_its_stubs_are_the_contracts(tmp_path):
    assert subprocess.run(["gofmt", "-l", "."], cwd=MODULE, capture_output=True, text=True).stdout == ""
    go("vet", "./...")
    subprocess.run([MODULE / "generate.sh", tmp_path], check=True, capture_output=True)
    fresh, kept = tmp_path / "expertdv1", MODULE / "expertdv1"
    names = sorted(path.name for path in kept.iterdir())
    assert names == sorted(path.name for path in fresh.iterdir())
    assert filecmp.cmpfiles(kept, fresh, names, shallow=False)[0] == names, "run clients/go/generate.sh"
