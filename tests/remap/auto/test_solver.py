"""Two trees matched from the roots: what is settled, by what, and what stays open."""

from __future__ import annotations

import pytest

from zoo.remap.auto.solver import Decision, Side, Solver
from zoo.remap.auto.tree import Execution, Order
from zoo.remap.auto.units import classes, find_units


@pytest.fixture
def solve(make):
    """`solve(source paths, target paths)`: the solver after its run; every path is a matrix of one shape."""

    def run(source, target, choices=None, executions=(None, None)):
        mine, its = (find_units(make({f"{path}.weight": (4, 4) for path in paths})) for paths in (source, target))
        sides = [Side(units, Order(True), order) for units, order in zip((mine, its), executions, strict=True)]
        solver = Solver(*sides, classes(mine, its), choices or {})
        solver.run()
        return solver

    return run


def paths(solver):
    return {source.path: target.path for source, target in solver.pairs}


def test_what_is_alone_of_its_kind_needs_no_evidence(solve):
    solver = solve(["a"], ["x"])
    assert paths(solver) == {"a": "x"}
    assert solver.decisions == []
    assert solver.undecided == []


def test_one_name_settles_a_pair_and_leaves_the_other(solve):
    solver = solve(["fc", "a"], ["x", "fc"])
    assert paths(solver) == {"fc": "fc", "a": "x"}
    assert solver.decisions == [Decision("the same name", (("fc", "fc"), ("a", "x")))]


def test_what_no_evidence_settles_is_filled_in_order_and_reported(solve):
    solver = solve(["left", "right"], ["port", "star"])
    assert paths(solver) == {"left": "port", "right": "star"}
    assert solver.tentative == {"left", "right"}
    assert [group.question for group in solver.undecided] == [(("left", "right"), ("port", "star"))]


def test_choices_answer_what_would_stay_open(solve):
    question = (("left", "right"), ("port", "star"))
    solver = solve(["left", "right"], ["port", "star"], choices={question: (1, 0)})
    assert paths(solver) == {"left": "star", "right": "port"}
    assert solver.undecided


def test_groups_of_unequal_size_are_not_filled(solve):
    solver = solve(["a", "b"], ["x", "y", "z"])
    assert solver.pairs == []
    assert len(solver.undecided) == 1


def test_guesses_follow_the_order_of_execution_where_it_is_known(solve):
    executions = Execution({"left.weight": 2, "right.weight": 1}), Execution({"port.weight": 1, "star.weight": 2})
    solver = solve(["left", "right"], ["port", "star"], executions=executions)
    assert paths(solver) == {"left": "star", "right": "port"}
