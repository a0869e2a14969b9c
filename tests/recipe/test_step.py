"""What every step has from its base class."""

from __future__ import annotations

import pytest

from zoo.errors import InputError, Location, WorkError
from zoo.recipe.options import Positive
from zoo.recipe.step import Place, Step, check_expression, explained, is_step, require_data
from zoo.recipe.yaml_reader import parse


class Wait(Step):
    """Waits."""

    turns: Positive = 1
    """So many times."""
    aloud: bool = False
    """Whether it says so."""


def test_a_step_knows_where_it_stands_and_is_equal_wherever_it_does():
    place = Place("acme/wait", "acme/wait", 2, Location("r.yaml", 4, 5))
    step = Wait(turns=3)
    placed = step.at(place)
    assert placed.place.path == ("steps", 2, "acme/wait")
    assert placed == step
    assert placed != Wait(turns=4)
    assert step.place.index == -1
    assert placed.model_dump() == {"turns": 3, "aloud": False}


def test_options_are_read_from_a_document():
    document = parse("steps:\n  - wait: {turns: 2}\n  - wait: {turns: 0, alowd: true}\n", "r.yaml")
    assert Wait.read(document, ("steps", 0, "wait")) == Wait(turns=2)
    assert document.problems == []
    assert Wait.read(document, ("steps", 1, "wait")) is None
    assert sorted(str(problem) for problem in document.problems) == [
        "r.yaml:3:19: wait.turns: expected an integer above 0, got 0",
        "r.yaml:3:22: wait: unknown key 'alowd' (did you mean aloud?)",
    ]


def test_what_may_stand_behind_its_name():
    assert Wait.first_option() == "turns"
    mapping, short, nothing = Wait.form()["anyOf"]
    assert list(mapping["properties"]) == ["turns", "aloud"]
    assert (short["type"], short["exclusiveMinimum"], nothing) == ("integer", 0, {"type": "null"})
    assert Wait.form()["description"] == "Waits."


def test_a_row_of_the_summary():
    record = {"step": 2, "action": "wait", "metrics": {"loss": 1.0, "patience": 0.5}, "seconds": 3.14}
    assert Wait.row(record) == {"step": "2", "action": "wait", "metrics": "patience 0.5000", "seconds": "3.1"}
    assert Wait.row({"step": 2, "action": "wait"}) == {"step": "2", "action": "wait"}


def test_no_option_hides_a_method():
    with pytest.warns(UserWarning, match="shadows"), pytest.raises(TypeError, match="may be called files, run"):
        type("Bad", (Step,), {"__annotations__": {"run": int, "files": int}})


def test_what_is_a_step():
    assert is_step(Wait)
    assert not is_step(Wait())
    assert not is_step(len)


def test_what_a_plugin_raises_names_its_step():
    step = Wait().at(Place("wait", "acme/wait", 0))
    with pytest.raises(WorkError, match=r"^acme/wait failed: KeyError: 'a' \(.*test_step\.py:\d+\)$"), explained(step):
        {}["a"]
    with pytest.raises(InputError, match=r"^as it is$"), explained(step):
        raise InputError("as it is")
    with pytest.raises(OSError, match="disk"), explained(step):
        raise OSError("disk")


def test_a_step_of_zoo_s_own_fails_as_it_fails():
    own = type("Own", (Step,), {"__module__": "zoo.steps.own"})
    with pytest.raises(KeyError), explained(own()):
        {}["a"]


def test_data_that_is_not_there():
    place = Place("wait", "wait", 0)
    without, given = parse("steps:\n  - wait: 1\n", "r.yaml"), parse("data: {}\nsteps: [wait: 1]\n", "r.yaml")
    require_data(without, place)
    require_data(given, place)
    assert [str(problem) for problem in without.problems] == [
        "r.yaml:2:5: wait needs data, and the recipe has no data section "
        "(add data: {source: …}; see: zoo list --kind datasets)"
    ]
    assert given.problems == []


@pytest.mark.parametrize("expression", ["(", "[", "(?P<a", "a{2,1}"])
def test_what_is_no_regular_expression(expression):
    document = parse(f"steps: [wait: {{match: '{expression}'}}]", "r.yaml")
    check_expression(document, ("steps", 0, "wait", "match"), expression)
    check_expression(document, ("steps", 0, "wait", "match"), "a{1,2}")
    (problem,) = document.problems
    assert str(problem).startswith(f"r.yaml:1:23: wait.match: '{expression}' is not a regular expression: ")
