"""Finds the components a recipe names and their parameters, turning whatever is wrong into problems with a place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zoo import registry
from zoo.errors import InputError, Problem, did_you_mean
from zoo.recipe.document import Document, Path
from zoo.recipe.named import dotted
from zoo.recipe.signature import Parameter, is_open, parameters

HANDED_OVER = ("context",)  # what zoo gives to a component that asks for it


_WORDS = {
    "architectures": "architecture",
    "datasets": "dataset",
    "freezing": "freezing policy",
    "surgeries": "step or surgery",
}


def find(document: Document, path: Path, name: str, kind: str, *, at_key: bool = False) -> registry.Component | None:
    """The component called `name`, or None when there is none, which is then a problem at `path`."""
    if not called(name, kind):
        known = written_names(kind, full="/" in name)
        hint = dotted(name, known) or did_you_mean(name, known) or f"see: zoo list --kind {kind}"
        document.add(path, f"no {_WORDS[kind]} is called {name!r}", hint, at_key=at_key)
        return None
    try:
        return registry.resolve(name, kind)
    except InputError as error:
        _note(document, path, error, at_key)
        return None


def called(name: str, kind: str) -> bool:
    """Whether some component, sound, broken or ambiguous, is called `name` in full or in short."""
    return any(name in (row.name, row.name.partition("/")[2]) for row in registry.components(kind))


def written_names(kind: str, *, full: bool = False) -> list[str]:
    """How people write the names of a kind: in short while that is unique. Architectures and datasets keep their
    namespace, which says where they come from."""
    names = registry.names(kind)
    if full or kind in ("architectures", "datasets"):
        return names
    short = [name.partition("/")[2] for name in names]
    return [name if short.count(name) > 1 else brief for name, brief in zip(names, short, strict=True)]


def load(
    document: Document, path: Path, component: registry.Component, *, at_key: bool = False
) -> Callable[..., Any] | None:
    """The component itself, or None when its plugin is broken, which is then a problem at `path`."""
    try:
        loaded: Callable[..., Any] = registry.load(component)
    except InputError as error:
        _note(document, path, error, at_key)
        return None
    return loaded


def _note(document: Document, path: Path, error: InputError, at_key: bool) -> None:
    location = document.key(path) if at_key else document.value(path)
    document.problems += [Problem(said.message, location, said.suggestion) for said in error.problems]


def parameters_of(loaded: Callable[..., Any], kind: str) -> dict[str, Parameter]:
    """What a recipe may give to a component of a kind: the model it works on is left out."""
    on_a_model = kind in ("surgeries", "freezing")
    return parameters(loaded, first=int(on_a_model), skip=HANDED_OVER, auto=kind == "surgeries")


def accepts_anything(loaded: Callable[..., Any]) -> bool:
    """Whether a component takes any argument, so that its own code has to judge them."""
    return is_open(loaded)


def unknown_step(document: Document, path: Path, name: str, built_in: list[str]) -> None:
    """Note that no step is called `name`, with what was meant: a built-in one, a surgery, or a policy that wants
    `freeze:` before it."""
    if called(name, "freezing"):
        hint: str | None = f"write freeze: {name}"
    else:
        known = [*built_in, *written_names("surgeries", full="/" in name)]
        hint = did_you_mean(name, known) or f"steps: {', '.join(known)}"
    document.add(path, f"no {_WORDS['surgeries']} is called {name!r}", hint, at_key=True)
