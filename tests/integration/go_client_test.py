"""The Go module against real servers, its stubs against the contract. Runs where Go is installed."""

import filecmp
import os
import re
import shutil
import subprocess

import pytest

from conftest import ROOT, Server, free_port

MODULE = ROOT / "clients/go"

pytestmark = pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed: the Go client is not tested")


def go(*arguments, cwd=MODULE, **environment):
    result = subprocess.run(["go", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=300,
                            env={**os.environ, **environment})
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_client(server):
    output = go("test", "-v", "-count=1", "./...", EXPERTD_TARGET=server.target,
                EXPERTD_NOBODY=f"127.0.0.1:{free_port()}")
    assert len(re.findall(r"^--- PASS", output, re.MULTILINE)) == 8, output


def test_a_late_server_and_its_keys(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("secret-key-0123456789\n")
    late = Server(tmp_path / "log", flags=["--api-key-file", str(keys)], wait=False)
    try:
        output = go("test", "-v", "-count=1", "-run", "TestAServerThatStartsLate", ".", EXPERTD_TARGET=late.target,
                    EXPERTD_KEY="secret-key-0123456789")
        assert "--- PASS" in output
    finally:
        late.stop()


def test_the_example(server, tmp_path):
    [example] = re.findall(r"```go\n(.*?)```", (MODULE / "README.md").read_text(), re.DOTALL)
    (tmp_path / "main.go").write_text(example.replace("127.0.0.1:50051", server.target))
    module = (MODULE / "go.mod").read_text().replace("github.com/expertd/expertd/clients/go", "example")
    required = "\nrequire github.com/expertd/expertd/clients/go v0.1.0\n"
    replaced = f"replace github.com/expertd/expertd/clients/go => {MODULE}\n"
    (tmp_path / "go.mod").write_text(module + required + replaced)
    shutil.copy(MODULE / "go.sum", tmp_path)
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
