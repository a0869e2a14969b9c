"""Names as modules and as patterns."""

from __future__ import annotations

from collections import Counter

import pytest

from zoo.formats.names import MAX_DEPTH, ancestors, by_module, grouped, in_order, pattern, shared, stem_and_leaf


@pytest.mark.parametrize(
    ("name", "above"), [("weight", [""]), ("a.weight", ["", "a"]), ("a.b.weight", ["", "a", "a.b"])]
)
def test_ancestors(name: str, above: list[str]) -> None:
    assert ancestors(name) == above


def test_a_name_of_thousands_of_dots_has_few_ancestors() -> None:
    assert len(ancestors("a." * 5000 + "weight")) == MAX_DEPTH + 1


def test_sums_by_module() -> None:
    sums = by_module(["a.x.weight", "a.y.weight", "b.weight"], Counter, lambda counter, name: counter.update([name]))
    assert {path: counter.total() for path, counter in sums.items()} == {"": 3, "a": 2, "a.x": 1, "a.y": 1, "b": 1}
    assert list(sums) == ["", "a", "a.x", "a.y", "b"]


def test_numbers_are_sorted_by_size_and_words_stay_as_they_came() -> None:
    assert in_order(["", "z", "z.10", "z.2", "a", "z.2.b"]) == ["", "z", "z.2", "z.2.b", "z.10", "a"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("layer.3.0.conv", "layer.*.*.conv"),
        ("layer_12/kernel", "layer_*/kernel"),
        ("conv1.weight", "conv1.weight"),
        ("w", "w"),
    ],
)
def test_pattern(name: str, expected: str) -> None:
    assert pattern(name) == expected


def test_indices_that_are_the_same_everywhere_stay() -> None:
    assert shared(["blocks.0.mlp.1", "blocks.3.mlp.1"]) == "blocks.*.mlp.1"


@pytest.mark.parametrize(("name", "parts"), [("a.0.bias", ("a.0", "bias")), ("a.table", ("a.table", ""))])
def test_stem_and_leaf(name: str, parts: tuple[str, str]) -> None:
    assert stem_and_leaf(name) == parts


def test_grouped() -> None:
    norms = [f"blocks.{index}.norm.{leaf}" for index in range(2) for leaf in ("weight", "bias")]
    assert grouped([*norms, "head.table"]) == {"blocks.*.norm.{weight,bias}": norms, "head.table": ["head.table"]}
    statistics = [f"bn.{leaf}" for leaf in ("weight", "bias", "running_mean")]
    assert list(grouped(statistics)) == ["bn.*"]
