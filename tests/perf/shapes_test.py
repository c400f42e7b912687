"""Every shape to measure is one that is served, with the size that README.md gives."""

import json
import pathlib
import re

import pytest

from conftest import run

HERE = pathlib.Path(__file__).resolve().parent
SHAPES = sorted(folder.name for folder in (HERE / "shapes").iterdir())


def table():
    """{shape: [parameters, active, int4 gigabytes, int8 gigabytes]} of README.md."""
    rows = re.findall(r"^\| `([\w.-]+)` \|(.*)\|$", (HERE / "README.md").read_text(), re.MULTILINE)
    return {name: [float(cell.replace(",", "")) for cell in cells.split("|")] for name, cells in rows}


def test_the_table_has_every_shape():
    assert sorted(table()) == SHAPES


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_has_the_size_in_the_table(shape):
    parameters, active, int4, int8 = table()[shape]

    found = json.loads(run("inspect", HERE / "shapes" / shape, "--json").stdout)

    assert found["parameters"] == {"total": parameters, "active_per_token": active}
    assert round(found["weight_bytes"]["int4"] / 1e9, 2) == int4
    assert round(found["weight_bytes"]["int8"] / 1e9, 2) == int8
