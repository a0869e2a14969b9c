"""Gives the problems of a step, a section or a component their place in the recipe."""

from __future__ import annotations

from zoo.errors import Location, Problem, ZooError
from zoo.recipe import Recipe
from zoo.recipe.document import Path, walk
from zoo.recipe.words import shown


def placed(recipe: Recipe, path: Path, error: ZooError) -> list[Problem]:
    """The problems of `error`, placed at the value below `path` that each one quotes, else where `path` is written.

    A problem that has a place in the recipe keeps it; one placed in another file (a row of a table) does, too.
    """
    return [
        Problem(said.message, said.location or _quoted(recipe, path, said.message), said.suggestion)
        for said in error.problems
    ]


def _quoted(recipe: Recipe, path: Path, message: str) -> Location:
    """The longest value or key below `path` that the message quotes."""
    best: tuple[int, Location] = (0, recipe.document.key(path))
    for inner, value in walk(recipe.document.get(path)):
        place: Path = (*path, *inner)
        if isinstance(value, str) and shown(value) in message and len(value) > best[0]:
            best = len(value), recipe.document.value(place)
        elif inner and isinstance(inner[-1], str) and repr(inner[-1]) in message and len(inner[-1]) > best[0]:
            best = len(inner[-1]), recipe.document.key(place)
    return best[1]
