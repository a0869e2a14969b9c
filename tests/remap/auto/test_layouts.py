"""Real layouts: every one that is matched is matched rightly, in any order, and docs/matching.md holds the table."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TABLE = re.search(
    r"(?ms)^<!-- table: layouts -->\n.*?\n.*?\n(?P<rows>.*?)^<!-- end -->\n",
    (ROOT / "docs" / "matching.md").read_text(),
)["rows"]
ROWS = {cells[0]: cells[2:] for cells in (line.strip("| ").split(" | ") for line in TABLE.splitlines())}
FAST = ("ResNet, Paddle's leaves", "Swin of mm", "jeonsworld ViT", "EVA-02")


@pytest.fixture(scope="module")
def layouts():
    spec = importlib.util.spec_from_file_location("match_layouts", ROOT / "benchmarks" / "match_layouts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_layout_has_a_row(layouts):
    assert list(ROWS) == [*layouts.NETWORKS, *layouts.FILES]


def test_none_is_wrong():
    assert not any("WRONG" in cells for cells in ROWS.values())


@pytest.mark.parametrize("name", FAST)
def test_the_row(name, layouts):
    assert layouts.row(layouts.FILES[name]) == ROWS[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_each_row(name, layouts):
    if name in layouts.NETWORKS:
        pytest.importorskip("transformers")
    assert layouts.row((layouts.NETWORKS | layouts.FILES)[name]) == ROWS[name]
