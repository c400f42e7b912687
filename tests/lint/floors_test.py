"""The house and its floor plan agree: includes point downward only, and each library stays in its own folder."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Folder -> what it may include beside itself and engine/base; a name with a dot is that one file.
FLOORS = {
    "engine/base": [],
    "engine/platform": [],
    "engine/text": [],
    "engine/structured": [],
    "engine/tensor": ["engine/platform"],
    "engine/kernels": ["engine/tensor", "engine/platform"],
    "engine/kv": ["engine/tensor", "engine/platform"],
    "engine/checkpoint": ["engine/tensor", "engine/platform"],
    "engine/request": ["engine/kv/block_pool.h", "engine/structured"],
    "engine/forward": ["engine/kernels", "engine/tensor", "engine/platform"],
    "engine/layers": [
        "engine/forward", "engine/kernels", "engine/checkpoint", "engine/tensor", "engine/platform",
        "engine/kv/kv_cache.h",
    ],
    "engine/scheduler": ["engine/request", "engine/kv/prefix_cache.h", "engine/kv/block_pool.h"],
    "engine/sampling": ["engine/request", "engine/structured", "engine/kernels", "engine/tensor", "engine/platform"],
    "engine/models": [
        "engine/layers", "engine/forward", "engine/checkpoint", "engine/kernels", "engine/tensor", "engine/platform",
        "engine/kv/kv_cache.h",
    ],
    "engine/runner": [
        "engine/models", "engine/sampling", "engine/request", "engine/forward", "engine/kernels", "engine/tensor",
        "engine/platform", "engine/kv/kv_cache.h",
    ],
    # The face of the engine: the files directly in engine/.
    "engine": [
        "engine/runner", "engine/models", "engine/layers", "engine/sampling", "engine/scheduler", "engine/request",
        "engine/text", "engine/structured", "engine/checkpoint", "engine/forward", "engine/kernels", "engine/kv",
        "engine/tensor", "engine/platform",
    ],
    # `logits` and `inspect` look below the face on purpose: they show what the arithmetic wing computes and plans.
    "engine/tools": [
        "engine", "engine/request", "engine/checkpoint", "engine/models", "engine/forward", "engine/kernels",
        "engine/tensor", "engine/platform",
    ],
    "metrics": ["engine/request/stats.h", "engine/request/rpc_stats.h"],
    "clients": ["expertd/v1", "google/rpc", "grpc/health"],
    "server": [
        "engine", "engine/request", "engine/text", "metrics", "expertd/v1", "google/rpc", "grpc/health",
    ],
}
# The one file that wires everything together.
WIRING = "server/main.cc"

# Headers that only some folders or files may include.
RESERVED = {
    r"prometheus/": ["metrics/"],
    r"grpcpp?/|grpc/": ["server/", "clients/", "api/"],
    r"boost/": ["clients/rest_shim/"],
    r"mpi\.h": ["engine/parallel/mpi_communicator.cc"],
    r"cblas\.h|openblas": ["engine/kernels/openblas.cc", "tests/perf/"],
    r"sentencepiece": ["engine/text/"],
    r"pcre2\.h": ["engine/text/"],
    r"regex$": [],
}

INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.MULTILINE)


def sources():
    for folder in ("engine", "server", "metrics", "clients"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".h", ".cc", ".inl"):
                yield path.relative_to(ROOT).as_posix()


def room_of(path):
    """The floor-plan entry that a path belongs to: its nearest folder that is in the table."""
    folder = path.rpartition("/")[0]
    while folder and folder not in FLOORS:
        folder = folder.rpartition("/")[0]
    return folder


def includes_of(path):
    return INCLUDE.findall((ROOT / path).read_text(encoding="utf-8"))


def is_ours(include):
    return include.split("/")[0] in ("engine", "server", "metrics", "clients") or include.startswith(
        ("expertd/v1", "google/rpc", "grpc/health"))


def allowed(room, include):
    for entry in FLOORS[room] + [room, "engine/base"]:
        if entry == include or room_of(include) == entry or (
                not entry.startswith("engine") and include.startswith(entry + "/")):
            return True
    return False


def test_every_source_has_a_room():
    homeless = [path for path in sources() if not room_of(path)]

    assert homeless == []


def test_includes_point_downward():
    wrong = []
    for path in sources():
        if path == WIRING:
            continue
        for _, include in includes_of(path):
            if is_ours(include) and not allowed(room_of(path), include):
                wrong.append(f"{path} includes {include}")

    assert wrong == []


def test_the_table_has_no_circle():
    def below(room, seen):
        for entry in FLOORS[room]:
            lower = entry if entry in FLOORS else room_of(entry)
            if lower in FLOORS:
                assert lower not in seen, f"circle: {' -> '.join(seen + [lower])}"
                if entry in FLOORS:
                    below(lower, seen + [lower])

    for room in FLOORS:
        below(room, [room])


def test_kv_bookkeeping_sees_no_bytes():
    for name in ("block_pool", "prefix_cache"):
        for suffix in (".h", ".cc"):
            path = f"engine/kv/{name}{suffix}"
            ours = [include for _, include in includes_of(path) if include.startswith("engine/")]

            assert all(i.startswith(("engine/base/", "engine/kv/block_pool", "engine/kv/prefix_cache")) for i in ours), path


@pytest.mark.parametrize("pattern", RESERVED)
def test_reserved_headers_stay_in_their_folders(pattern):
    wrong = []
    for path in sources():
        for _, include in includes_of(path):
            if re.match(pattern, include) and not any(path.startswith(place) for place in RESERVED[pattern]):
                wrong.append(f"{path} includes {include}")

    assert wrong == []


def test_only_dispatch_selects_kernels_by_cpu():
    asking = [path for path in sources()
              if path.startswith("engine/kernels/") and re.search(r"\bcpu\.(avx|amx)", (ROOT / path).read_text())]

    assert asking in ([], ["engine/kernels/dispatch.cc"])


def test_every_header_is_guarded_once():
    unguarded = [path for path in sources()
                 if path.endswith(".h") and "#pragma once" not in (ROOT / path).read_text(encoding="utf-8")]

    assert unguarded == []


def test_no_source_uses_std_regex():
    users = [path for path in sources() if re.search(r"std::(basic_)?regex", (ROOT / path).read_text(encoding="utf-8"))]

    assert users == []
