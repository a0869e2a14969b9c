"""Expressions and the bytes that can be copied for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import yaml

from zoo.remap.expression import Expression, Span, byte_spans, evaluate
from zoo.remap.rules import parse_rules, run

COPIED = [
    "rename: {^: p.}",
    "reshape: {match: a, to: [-1]}",
    "concat: {into: c, from: [a, b]}",
    "stack: {into: c, from: [a, b]}",
    "split: {from: a, into: [c, d]}",
    "unstack: {from: a, into: [c, d, e, f]}",
    "slice: {match: a, start: 1, stop: 3}",
]
ARRANGED = [
    "transpose: a",
    "concat: {into: c, from: [a, b], axis: 1}",
    "stack: {into: c, from: [a, b], axis: 1}",
    "split: {from: a, into: [c, d], axis: 1}",
    "slice: {match: a, axis: 1, start: 1}",
    "cast: float16",
]


def values(text: str, entries: Callable, shape: tuple[int, ...] = (4, 6)) -> dict[str, Expression]:
    return run(parse_rules(yaml.safe_load(f"[{text}]")), entries({"a": shape, "b": shape})).values


@pytest.mark.parametrize(
    "text", [f"{{{one}}}" for one in COPIED] + [f"{{{a}}}, {{{b}}}" for a in COPIED[1:3] for b in COPIED[-1:]]
)
def test_copied_bytes_are_the_tensor(text: str, entries: Callable) -> None:
    generator = np.random.default_rng(0)
    arrays = {name: generator.normal(size=(4, 6)).astype("f4") for name in "ab"}
    for value in values(text, entries).values():
        spans = byte_spans(value)
        assert spans is not None
        copied = b"".join(arrays[span.source].tobytes()[span.start : span.stop] for span in spans)
        assert copied == evaluate(value, arrays.__getitem__).tobytes()


@pytest.mark.parametrize("text", ARRANGED)
def test_what_is_rearranged_or_changed_is_not_copied(text: str, entries: Callable) -> None:
    assert any(byte_spans(value) is None for value in values(f"{{{text}}}", entries).values())


def test_axes_of_one_in_front_do_not_count(entries: Callable) -> None:
    (first, second) = values("{split: {from: a, into: [c, d], axis: 1}}, {drop: b}", entries, (1, 6)).values()
    assert byte_spans(first) == (Span("a", 0, 12),)
    assert byte_spans(second) == (Span("a", 12, 24),)


def test_parts_of_bytes_are_not_cut(entries: Callable) -> None:
    rules = parse_rules([{"slice": {"match": "a", "stop": 2}}])
    assert byte_spans(run(rules, entries({"a": (4,)}, "F4")).values["a"]) is None


def test_layout_operations_keep_every_bit(entries: Callable) -> None:
    """NaN payloads, infinities and subnormals of a dtype that numpy does not know."""
    rules = parse_rules([{"transpose": "a"}, {"split": {"from": "a", "into": ["b", "c"], "axis": 1}}])
    bits = np.arange(2**16, dtype="u2").reshape(256, 256)
    made = run(rules, entries({"a": (256, 256)}, "BF16")).values
    assert np.array_equal(evaluate(made["c"], {"a": bits}.__getitem__), bits.T[:, 128:])
