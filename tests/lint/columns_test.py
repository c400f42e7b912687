"""C++ lines hold at most 120 characters."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("api", "clients", "engine", "metrics", "server", "tests")
ENDINGS = (".cc", ".h", ".inl")
MOST = 120


def test_lines_fit():
    long = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix not in ENDINGS:
                continue
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if len(line) > MOST:
                    long.append(f"{path.relative_to(ROOT)}:{number}: {len(line)}")

    assert long == []
