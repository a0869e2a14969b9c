"""The values of rules: what each reader takes, and what it says of the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zoo.remap.rules import values
from zoo.remap.rules.values import MisfitError

TAKEN = [
    (values.text, "a", "a"),
    (values.texts, "a", ("a",)),
    (values.texts, ["a", "b"], ("a", "b")),
    (values.integer, 3, 3),
    (values.integers, [0, 2], (0, 2)),
    (values.shape, [2, -1, 0], (2, -1, 0)),
    (values.shape, [], ()),
    (values.grid, 7, (7, 7)),
    (values.grid, [7, 9], (7, 9)),
    (values.dtype, "float16", "F16"),
    (values.boolean, False, False),
]
REFUSED = [
    (values.text, "", "expected a text, not ''"),
    (values.text, 3, "expected a text, not 3"),
    (values.texts, [], "a list of at least 1"),
    (values.pattern, "(", "not a regular expression"),
    (values.template, "{i-}", "no placeholder"),
    (values.templates, ["a"], "a list of at least 2"),
    (values.integer, True, "expected an integer of at least 0, not True"),
    (values.integer, -1, "expected an integer of at least 0, not -1"),
    (values.integers, [], "expected a list of integers"),
    (values.shape, [-1, -1], "only one -1"),
    (values.grid, [1, 2, 3], r"expected \[height, width\]"),
    (values.grid, 0, "at least 1"),
    (values.dtype, "float33", "'float33' is no dtype"),
    (values.boolean, "yes", "expected true or false"),
]


@pytest.mark.parametrize(("reader", "value", "expected"), TAKEN)
def test_taken(reader: Callable[[Any, str], Any], value: Any, expected: Any) -> None:
    assert reader(value, "key") == expected


@pytest.mark.parametrize(("reader", "value", "message"), REFUSED)
def test_refused(reader: Callable[[Any, str], Any], value: Any, message: str) -> None:
    with pytest.raises(MisfitError, match=message) as caught:
        reader(value, "key")
    assert caught.value.key == "key"


def test_options() -> None:
    assert values.options("x", "match", ["match"]) == {"match": "x"}
    assert values.options({"match": "x", "to": 1}, "match", ["match"], ["to"]) == {"match": "x", "to": 1}
    with pytest.raises(MisfitError, match="there is no 'mach' here") as unknown:
        values.options({"mach": "x"}, "match", ["match"])
    assert unknown.value.suggestion == "did you mean match?"
    with pytest.raises(MisfitError, match="'match' is missing"):
        values.options({}, "match", ["match"])


def test_choice() -> None:
    assert values.choice("mean", "new", ("mean", "zero")) == "mean"
    with pytest.raises(MisfitError, match="expected mean or zero, not 'maen'") as caught:
        values.choice("maen", "new", ("mean", "zero"))
    assert caught.value.suggestion == "did you mean mean?"
