"""Gives the problems of a step, a section or a component their place in the recipe."""

from __future__ import annotations

from zoo.errors import Location, Problem, ZooError
from zoo.recipe import Recipe
from zoo.recipe.document import Path, walk
from zoo.recipe.words import shown

_TELLING = 3  # a bare word of no more letters is in a message by chance


def placed(recipe: Recipe, path: Path, error: ZooError, *, about: str = "") -> list[Problem]:
    """The problems of `error`, placed at the value below `path` that each one quotes, else at the key `about` there.

    A problem that has a place in the recipe keeps it; one placed in another file (a row of a table) does, too.
    """
    return [
        Problem(said.message, said.location or _quoted(recipe, path, said.message, about), said.suggestion)
        for said in error.problems
    ]


def _quoted(recipe: Recipe, path: Path, message: str, about: str) -> Location:
    """The value or key below `path` that the message speaks of: quoted rather than bare, the longest of several."""
    written = recipe.document.get(path)
    alone = recipe.document.value(path) if not isinstance(written, dict | list) else recipe.document.key((*path, about))
    best: tuple[int, int, Location] = (0, 0, alone)
    for inner, value in walk(written):
        place: Path = (*path, *inner)
        key = inner[-1] if inner and isinstance(inner[-1], str) else ""
        if (isinstance(value, str) and shown(value) in message) or f"{key} is {shown(value)}" in message:
            found = 2, len(shown(value)), recipe.document.value(place)
        elif key and repr(key) in message:
            found = 2, len(key), recipe.document.key(place)
        elif isinstance(value, str) and len(value) > _TELLING and value in message:
            found = 1, len(value), recipe.document.value(place)
        else:
            continue
        best = max(best, found, key=lambda each: each[:2])
    return best[2]
