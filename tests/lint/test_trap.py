"""A finding becomes a problem at a place in a recipe."""

from zoo.errors import Location, Problem
from zoo.lint.trap import Trap


def test_a_finding_is_a_problem_with_its_place():
    trap = Trap("activation", ("fc",), "a ReLU in front of the loss", "remove it")
    here = Location("recipe.yaml", 3, 5)
    assert trap.problem(here) == Problem("a ReLU in front of the loss", here, "remove it")
    assert trap.problem().location is None
