"""split, concat, stack, unstack."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import yaml

from zoo.errors import InputError
from zoo.remap.expression import evaluate
from zoo.remap.rules import parse_rules

QKV = """
- concat:
    into: blocks.{i}.qkv.{leaf=weight|bias}
    from: ['layer.{i}.q.{leaf}', 'layer.{i}.k.{leaf}', 'layer.{i}.v.{leaf}']
"""


def arrays(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {name: generator.normal(size=shape).astype("f4") for name, shape in shapes.items()}


def test_concat_joins_each_layer_weight_and_bias(program: Callable) -> None:
    shapes = {
        f"layer.{i}.{part}.{leaf}": shape
        for i in (0, 1)
        for part in "kvq"
        for leaf, shape in {"weight": (4, 3), "bias": (4,)}.items()
    }
    outcome, given = program(QKV, shapes), arrays(shapes)
    assert set(outcome.values) == {f"blocks.{i}.qkv.{leaf}" for i in (0, 1) for leaf in ("weight", "bias")}
    made = evaluate(outcome.values["blocks.1.qkv.weight"], given.__getitem__)
    assert np.array_equal(made, np.concatenate([given[f"layer.1.{part}.weight"] for part in "qkv"]))


def test_a_part_that_is_not_there_is_named(program: Callable) -> None:
    with pytest.raises(InputError, match=r"needs all 3 parts of 'blocks.0.qkv.bias'; not there: 'layer.0.v.bias'"):
        program(QKV, {"layer.0.q.bias": (4,), "layer.0.k.bias": (4,)})


def test_what_concat_makes_must_not_be_taken(program: Callable) -> None:
    with pytest.raises(InputError, match="that name is taken"):
        program("- concat: {into: c, from: [a, b]}", {"a": (2,), "b": (2,), "c": (2,)})


def test_a_tensor_cannot_be_two_parts(program: Callable) -> None:
    with pytest.raises(InputError, match="uses 'a' twice"):
        program("- concat: {into: c, from: [a, a]}", {"a": (2,)})


def test_concat_may_go_into_the_name_of_a_part(program: Callable) -> None:
    assert program("- concat: {into: a, from: [a, b]}", {"a": (2,), "b": (2,)}).values["a"].shape == (4,)


@pytest.mark.parametrize(
    ("text", "shapes", "why"),
    [
        ("{into: c, from: [a, b]}", {"a": (2, 3), "b": (2, 4)}, "more than axis 0"),
        ("{into: c, from: [a, b]}", {"a": (2, 3), "b": (3, 3)}, r"say `sizes: \[2, 3\]`"),
        ("{into: c, from: [a, b], axis: 2}", {"a": (2, 3), "b": (2, 3)}, "no axis 2"),
    ],
)
def test_concat_misfits(program: Callable, text: str, shapes: dict, why: str) -> None:
    with pytest.raises(InputError, match=why):
        program(f"- concat: {text}", shapes)


def test_concat_of_two_dtypes_is_refused(entries: Callable) -> None:
    from zoo.remap.rules import run

    source = entries({"a": (2,)}) | entries({"b": (2,)}, "F16")
    with pytest.raises(InputError, match="cast them to one first"):
        run(parse_rules([{"concat": {"into": "c", "from": ["a", "b"]}}]), source)


@pytest.mark.parametrize(("axis", "sizes"), [(0, None), (1, None), (0, [1, 5]), (1, [3, 1])])
def test_split_values_and_back(program: Callable, axis: int, sizes: list[int] | None) -> None:
    size = "" if sizes is None else f", sizes: {sizes}"
    outcome = program(f"- split: {{from: x, into: [a, b], axis: {axis}{size}}}", {"x": (6, 4)})
    array = arrays({"x": (6, 4)})
    cuts = [sizes[0]] if sizes else 2
    for name, want in zip("ab", np.split(array["x"], cuts, axis), strict=True):
        assert np.array_equal(evaluate(outcome.values[name], array.__getitem__), want)


@pytest.mark.parametrize(
    ("text", "why"),
    [("into: [a, b, c, d]", "4 equal parts"), ("into: [a, b], sizes: [1, 2]", "make 3, not the 6")],
)
def test_split_misfits(program: Callable, text: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        program(f"- split: {{from: x, {text}}}", {"x": (6,)})


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_stack_and_unstack(program: Callable, axis: int) -> None:
    given = arrays({"a": (2, 3), "b": (2, 3)})
    outcome = program(f"- stack: {{into: x, from: [a, b], axis: {axis}}}", {"a": (2, 3), "b": (2, 3)})
    whole = evaluate(outcome.values["x"], given.__getitem__)
    assert np.array_equal(whole, np.stack([given["a"], given["b"]], axis))
    back = program(f"- unstack: {{from: x, into: [a, b], axis: {axis}}}", {"x": whole.shape})
    for name in "ab":
        assert np.array_equal(evaluate(back.values[name], {"x": whole}.__getitem__), given[name])


def test_unstack_counts(program: Callable) -> None:
    with pytest.raises(InputError, match="has not 2 positions"):
        program("- unstack: {from: x, into: [a, b]}", {"x": (3, 2)})


@pytest.mark.parametrize(
    "text",
    [
        "concat: {into: 'a.{i}', from: ['b.{i}', 'c.{j}']}",
        "concat: {into: 'a', from: ['b.{i}', 'c.{i}']}",
        "split: {from: 'a.{i}', into: ['b', 'c']}",
        "split: {from: a, into: [b]}",
        "split: {from: a, into: [b, c], sizes: [1]}",
        "stack: {into: a, from: [b, c], sizes: [1, 1]}",
        "concat: {from: [b, c]}",
    ],
)
def test_sides_that_do_not_agree_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_rules(yaml.safe_load(f"[{{{text}}}]"))


@pytest.mark.parametrize("kind", ["concat", "split", "stack", "unstack"])
def test_every_rule_writes_what_it_reads(kind: str) -> None:
    keys = ("into", "from") if kind in ("concat", "stack") else ("from", "into")
    sizes = {"sizes": [1, 2]} if kind in ("concat", "split") else {}
    rules = parse_rules([{kind: {keys[0]: "a.{i}", keys[1]: ["b.{i}", "c.{i+1}"], "axis": 1, **sizes}}])
    assert parse_rules([rule.as_mapping() for rule in rules]) == rules
