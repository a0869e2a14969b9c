"""docs/matching.md: the table of pairs is what the benchmark prints, and the abstentions are what the command says."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest

from zoo.cli import run

PAGE = (Path(__file__).parents[3] / "docs" / "matching.md").read_text()
TABLE = re.search(r"(?ms)^<!-- table: pairs -->\n.*?\n.*?\n(?P<rows>.*?)^<!-- end -->\n", PAGE)["rows"]
ROWS = {cells[0]: cells for cells in (line.strip("| ").split(" | ") for line in TABLE.splitlines())}
FAST = ("resnet50", "vgg16_bn", "regnet_y_400mf", "swin_v2_t", "maxvit_t", "efficientnet-lite0")
NUMBERS = (5, 8)  # the cells that hold errors
COMMAND = re.compile(r"(?ms)^```console\n\$ zoo (?P<command>.*?)\n(?P<said>.*?)^```\n")
ROUNDING = 1e-5


def cells_of(benchmark, name, evidence_only):
    if "Image" in name:
        pytest.importorskip("transformers")
    return benchmark.row(name, evidence_only).strip("| ").split(" | ")


def test_every_pair_has_a_row(benchmark):
    assert list(ROWS) == [*benchmark.PAIRS, *benchmark.OTHERS]


@pytest.mark.parametrize("name", FAST)
def test_the_verdict_by_evidence(name, benchmark):
    found = cells_of(benchmark, name, evidence_only=True)
    assert [*found[:4], found[7], found[9]] == [*ROWS[name][:4], ROWS[name][7], ROWS[name][9]]


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_the_whole_row(name, benchmark):
    found, told = cells_of(benchmark, name, evidence_only=False), ROWS[name]
    rest = [place for place in range(len(told)) if place not in NUMBERS]
    assert [found[place] for place in rest] == [told[place] for place in rest]
    for place in NUMBERS:
        with contextlib.suppress(ValueError):  # "–": there is no such number
            assert (float(found[place]) < ROUNDING) == (float(told[place]) < ROUNDING) == (told[4] == "proved")


def test_the_counts():
    assert f"By evidence alone {sum(row[3] == 'unique' for row in ROWS.values())} of the {len(ROWS)} pairs" in PAGE
    assert f"by running {sum(row[4] == 'proved' for row in ROWS.values())};" in PAGE


@pytest.mark.slow
def test_the_abstentions(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(re.search(r"(?s)```python\n(.*?)```", PAGE)[1], {})
    to = ["--to", "timm/mobilenetv2_100", "--remap", "auto"]
    assert run(["convert", "true.safetensors", "true-out.safetensors", *to]) == 0
    capsys.readouterr()
    commands = COMMAND.findall(PAGE)
    assert len(commands) == 2
    for command, said in commands:
        assert run(command.split()) == 1
        assert capsys.readouterr().err.startswith(said)
        assert not Path("out.safetensors").exists()
    assert run(["convert", "numbers.safetensors", "out.safetensors", "--from", "torchvision/mobilenet_v2", *to]) == 2
    told = "the file is not of torchvision/mobilenet_v2: it fills 0% of its parameters"
    assert told in capsys.readouterr().err
    assert told in " ".join(PAGE.split())
