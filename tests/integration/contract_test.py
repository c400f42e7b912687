"""The published contract: buf's lint, and a comment above every declaration."""

import pathlib
import re
import subprocess

import pytest

from conftest import ROOT

PROTOS = sorted((ROOT / "api/expertd/v1").glob("*.proto"))


def test_buf_lint_passes():
    buf = ROOT / "build/node/node_modules/.bin/buf"
    assert buf.exists(), "run ./test.sh, which installs buf"

    result = subprocess.run([str(buf), "lint"], cwd=ROOT / "api", capture_output=True, text=True, timeout=120)

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("path", PROTOS, ids=lambda path: path.name)
def test_every_field_and_rpc_has_a_comment(path: pathlib.Path):
    bare = []
    previous = ""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        declares = re.match(r"\s+(?:optional |repeated )?[\w.]+ \w+ = \d+", line) or re.match(r"\s*(rpc|message|enum|oneof|service) ", line)
        if declares and not previous.strip().startswith("//"):
            bare.append(f"{path.name}:{number}: {line.strip()}")
        previous = line

    assert bare == []
