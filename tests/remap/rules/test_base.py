"""The state between two rules, and what a program of rules leads to."""

from __future__ import annotations

import pytest

from zoo.errors import InputError
from zoo.formats.entry import Entry
from zoo.remap.expression import Expression
from zoo.remap.rules import parse_rules, run
from zoo.remap.rules.base import State, given, matching
from zoo.remap.rules.patterns import Pattern

RULE = parse_rules([{"strip_prefix": "a."}])[0]


def state(*names: str) -> State:
    return State({name: Expression("F32", (2,), name) for name in names})


def test_renames_happen_at_once_and_keep_the_order() -> None:
    names = state("a", "b", "c")
    names.shared, names.initialised = {"b"}, {"a": "new rows"}
    names.rename({"a": "b", "b": "a"}, RULE)
    assert [(name, value.source) for name, value in names.values.items()] == [("b", "a"), ("a", "b"), ("c", "c")]
    assert names.shared == {"a"}
    assert names.initialised == {"b": "new rows"}


@pytest.mark.parametrize(("new", "message"), [("b", "two tensors on one name"), ("", "leaves nothing of the name")])
def test_renames_that_lose_a_tensor(new: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        state("a", "b").rename({"a": new}, RULE)


def test_new_tensors_take_the_place_of_the_first_old_one() -> None:
    names = state("x", "q", "y", "k")
    names.put([({"qk": Expression("F32", (4,), "q")}, ["q", "k"])], RULE)
    assert list(names.values) == ["x", "qk", "y"]
    with pytest.raises(InputError, match="makes 'x', but that name is taken"):
        names.put([({"x": Expression("F32", (4,), "q")}, ["qk"])], RULE)
    with pytest.raises(InputError, match="uses 'y' twice"):
        names.put([({"a": names.values["y"]}, ["y"]), ({"b": names.values["y"]}, ["y"])], RULE)


def test_matching_says_what_found_nothing() -> None:
    patterns = [Pattern.parse("^a"), Pattern.parse("^z")]
    assert matching(state("b", "a1", "a2"), patterns) == (["a1", "a2"], ["^z"])


def test_given() -> None:
    assert given(match="x", to=(1, 2), source=None, axis=0) == {"match": "x", "to": [1, 2], "axis": 0}


def test_the_outcome_of_a_program() -> None:
    entries = {name: Entry(name, "F32", (2,)) for name in ("a.w", "a.b", "rest")}
    rules = parse_rules([{"strip_prefix": "a."}, {"drop": ["^rest$", "^nothing$"]}, {"strip_prefix": "z."}])
    outcome = run(rules, entries, {"tied": "a.w"})
    assert {name: value.source for name, value in outcome.values.items()} == {"w": "a.w", "b": "a.b"}
    assert outcome.ties == {"tied": "w"}
    assert outcome.dropped == {"rest": rules[1]}
    assert outcome.unused == ((rules[1], "^nothing$"), (rules[2], "z."))
    assert outcome.idle == (rules[2],)
