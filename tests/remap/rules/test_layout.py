"""cast, transpose, permute, reshape, slice: their types, and the values against numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import yaml

from zoo.errors import InputError
from zoo.remap.expression import evaluate
from zoo.remap.rules import Outcome, parse_rules

RANDOM = np.random.default_rng(0)


def value(outcome: Outcome, array: np.ndarray, name: str = "x") -> np.ndarray:
    return evaluate(outcome.values[name], {"x": array}.__getitem__)


@pytest.mark.parametrize(
    ("text", "shape", "expected"),
    [
        ("transpose: x", (2, 3), lambda a: a.T),
        ("transpose: {match: x, axes: [0, 2]}", (2, 3, 4), lambda a: a.swapaxes(0, 2)),
        ("permute: {match: x, axes: [3, 2, 0, 1]}", (2, 3, 4, 5), lambda a: a.transpose(3, 2, 0, 1)),
        ("reshape: {match: x, to: [-1]}", (4, 1, 1), lambda a: a.reshape(4)),
        ("reshape: {match: x, to: [0, 2, -1, 3]}", (5, 24), lambda a: a.reshape(5, 2, 4, 3)),
        ("reshape: {match: x, to: []}", (1,), lambda a: a.reshape(())),
        ("slice: {match: x, axis: 1, start: 1, stop: 3}", (2, 5), lambda a: a[:, 1:3]),
        ("slice: {match: x, start: -2}", (5, 2), lambda a: a[-2:]),
        ("slice: {match: x, stop: -1}", (5, 2), lambda a: a[:-1]),
    ],
)
def test_values_are_those_of_numpy(program: Callable, text: str, shape: tuple, expected: Callable) -> None:
    array = RANDOM.normal(size=shape).astype("f4")
    outcome = program(f"[{{{text}}}]", {"x": shape})
    want = expected(array)
    assert outcome.values["x"].shape == want.shape
    assert np.array_equal(value(outcome, array), want)


@pytest.mark.parametrize(
    ("text", "shape", "why"),
    [
        ("transpose: x", (2, 3, 4), "no matrix"),
        ("transpose: {match: x, axes: [0, 5]}", (2, 3), "no axis 5"),
        ("permute: {match: x, axes: [1, 0]}", (2, 3, 4), "name each axis"),
        ("reshape: {match: x, to: [5, -1]}", (4, 2), "do not fill"),
        ("reshape: {match: x, to: [3]}", (4,), "other elements"),
        ("reshape: {match: x, to: [-1, 0]}", (4,), "keeps a size"),
        ("reshape: {match: x, from: [0, 1, 1], to: [0]}", (4, 2, 1), "not of the form"),
        ("slice: {match: x, start: 3, stop: 9}", (5,), "does not lie in"),
        ("slice: {match: x, axis: 2}", (5,), "no axis 2"),
    ],
)
def test_misfits_name_rule_tensor_and_reason(program: Callable, text: str, shape: tuple, why: str) -> None:
    with pytest.raises(InputError, match=f"rule `.*` does not fit 'x': .*{why}"):
        program(f"[{{{text}}}]", {"x": shape})


def test_cast_takes_floating_point_tensors_unless_told(entries: Callable) -> None:
    from zoo.remap.rules import run

    source = entries({"w": (2,)}) | entries({"count": ()}, "I64") | entries({"h": (2,)}, "F16")
    dtypes = {name: v.dtype for name, v in run(parse_rules([{"cast": "bfloat16"}]), source).values.items()}
    assert dtypes == {"w": "BF16", "count": "I64", "h": "BF16"}
    rules = parse_rules([{"cast": {"to": "float32", "from": "float16"}}, {"cast": {"to": "int32", "match": "count"}}])
    dtypes = {name: v.dtype for name, v in run(rules, source).values.items()}
    assert dtypes == {"w": "F32", "count": "I32", "h": "F32"}


@pytest.mark.parametrize("word", ["bf16", "bfloat16", "torch.bfloat16", "BF16"])
def test_a_dtype_by_any_of_its_names(word: str) -> None:
    (rule,) = parse_rules([{"cast": word}])
    assert rule.as_mapping() == {"cast": "bfloat16"}


@pytest.mark.parametrize("word", ["F4", "F6_E2M3", "float33", "complex128"])
def test_no_cast_to_what_cannot_be_computed_with(word: str) -> None:
    with pytest.raises(InputError, match=f"cast: '{word}' is no dtype"):
        parse_rules([{"cast": {"to": word}}])


def test_an_exact_cast_claims_that_nothing_is_rounded(program: Callable) -> None:
    outcome = program("- cast: {to: bfloat16, exact: true}", {"x": (2,)})
    (pair,) = outcome.must_be_equal
    for values, same in (([1.5, -2.0], True), ([1.5, 0.1], False)):
        read = {"x": np.array(values, "f4")}.__getitem__
        assert np.array_equal(evaluate(pair.first, read), evaluate(pair.second, read)) is same


def test_transposing_twice_is_a_copy_again(program: Callable) -> None:
    outcome = program("[{transpose: x}, {transpose: x}]", {"x": (2, 3)})
    assert outcome.values["x"].source == "x"


def test_reshaping_back_is_a_copy_again(program: Callable) -> None:
    outcome = program("[{reshape: {match: x, to: [6]}}, {reshape: {match: x, to: [2, 3]}}]", {"x": (2, 3)})
    assert outcome.values["x"].source == "x"


@pytest.mark.parametrize(
    "text",
    [
        "transpose: x",
        "transpose: {match: x, axes: [0, 2]}",
        "permute: {match: x, axes: [1, 0]}",
        "reshape: {match: x, from: [0, 1, 1], to: [0]}",
        "reshape: {match: x, to: [-1]}",
        "slice: {match: x, axis: 1, start: 2, stop: 3}",
        "cast: float16",
        "cast: {to: float32, match: x, from: bfloat16}",
        "cast: {to: float16, exact: true}",
    ],
)
def test_every_rule_writes_what_it_reads(text: str) -> None:
    rules = parse_rules(yaml.safe_load(f"[{{{text}}}]"))
    assert parse_rules([rule.as_mapping() for rule in rules]) == rules
