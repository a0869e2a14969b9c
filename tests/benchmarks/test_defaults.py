"""The recipes of benchmarks/defaults.py, and how its table names what is missing."""

import importlib
from pathlib import Path

import pytest

import zoo

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def defaults(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("defaults")


def test_each_way_is_a_recipe_without_mistakes(defaults):
    data = {"source": "sklearn/digits", "image_size": 32}
    for way in defaults.WAYS:
        recipe = defaults.recipe({"architecture": "timm/test_resnet", "weights": None}, data, way, seed=0)
        assert not zoo.check(recipe).errors


def test_the_parts_are_disjoint_and_drawn_by_the_seed(defaults, tmp_path):
    samples = defaults.digits()
    sets = []
    for seed in (0, 1):
        folder = defaults.written(samples, (40, 20, 100), tmp_path / str(seed), seed)
        parts = [{path.name for path in (folder / part).rglob("*.png")} for part in ("train", "validation", "test")]
        assert [len(part) for part in parts] == [40, 20, 100]
        assert len(set.union(*parts)) == 160
        sets.append(parts)
    assert sets[0] != sets[1]


def test_the_table_says_of_how_many_seeds_a_cell_is(defaults):
    runs = {f"digits/lite0/defaults/{seed}": {"test": share, "seconds": 10} for seed, share in enumerate((0.9, 0.92))}
    runs["mnist/lite0/automm/0"] = {"test": 0.5, "seconds": 30}
    digits, mnist = (
        next(line for line in defaults.table(runs).splitlines() if line.startswith(f"| {data} | lite0"))
        for data in ("digits", "mnist")
    )
    assert "91.0 ± 1.4 (2 seeds)" in digits
    assert digits.endswith("|  |  |  |")
    assert "50.0 (1 seed)" in mnist
