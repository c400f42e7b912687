"""The Node package, built as its README says, against real servers; its own tests are in clients/node/test."""

import os
import re
import subprocess

import pytest

from conftest import ROOT, Server, free_port

PACKAGE = ROOT / "clients/node"


@pytest.fixture(scope="module")
def package():
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--silent"], cwd=PACKAGE, check=True)
    subprocess.run(["npm", "run", "--silent", "build"], cwd=PACKAGE, check=True)
    return PACKAGE


def node(*arguments, target, **environment):
    return subprocess.run(["node", *map(str, arguments)], cwd=PACKAGE, capture_output=True, text=True, timeout=120,
                          env={**os.environ, "EXPERTD_TARGET": target, **environment})


def test_the_client(package, slow_server):
    result = node("--test", "test/client.test.mjs", target=slow_server.target,
                  EXPERTD_NOBODY=f"127.0.0.1:{free_port()}")
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"pass 11\b", result.stdout), result.stdout


def test_what_a_failing_server_shows(package):
    result = node("--test", "test/fake_server.test.mjs", target="")
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"pass 11\b", result.stdout), result.stdout


def test_a_late_server_and_its_keys(package, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("secret-key-0123456789\n")
    late = Server(tmp_path / "log", flags=["--api-key-file", str(keys)], wait=False)
    try:
        result = node("test/late_server.mjs", target=late.target, EXPERTD_KEY="secret-key-0123456789")
        assert result.returncode == 0, result.stdout + result.stderr
    finally:
        late.stop()


def test_the_package_holds_all_that_the_example_needs(package, server, tmp_path):
    [packed] = subprocess.run(["npm", "pack", "--silent", "--pack-destination", str(tmp_path)], cwd=package, check=True,
                              capture_output=True, text=True).stdout.split()
    installed = tmp_path / "node_modules/@expertd/client"
    installed.mkdir(parents=True)
    subprocess.run(["tar", "xzf", tmp_path / packed, "-C", installed, "--strip-components=1"], check=True)
    for dependency in (package / "node_modules").iterdir():
        if dependency.name != "@expertd":
            (tmp_path / "node_modules" / dependency.name).symlink_to(dependency)
    [example] = re.findall(r"```js\n(.*?)```", (package / "README.md").read_text(), re.DOTALL)
    (tmp_path / "example.mjs").write_text(example.replace("127.0.0.1:50051", server.target))

    result = node("--preserve-symlinks", tmp_path / "example.mjs", target=server.target)

    assert result.returncode == 0, result.stderr
    assert "Paris" in result.stdout and "sampling.temperature" in result.stdout
