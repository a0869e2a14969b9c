"""Writes shorthands out, so that everything after it meets one form: `train: 5` is `{train: {epochs: 5}}`."""

from __future__ import annotations

from collections.abc import Callable

from zoo import registry
from zoo.errors import InputError
from zoo.recipe.components import parameters_of
from zoo.recipe.document import Document, Path
from zoo.recipe.steps import STEPS


def write_out(document: Document) -> None:
    """Give every section and step its long form: a lone value becomes the first parameter, a bare step an empty
    mapping. What cannot be understood stays as it is, for validation to judge."""
    if not isinstance(document.data, dict):
        return
    _scalar(document, ("model",), lambda: "architecture")
    _scalar(document, ("data",), lambda: "source")
    steps = document.get(("steps",))
    for index in range(len(steps)) if isinstance(steps, list) else ():
        _step(document, ("steps", index))


def _step(document: Document, path: Path) -> None:
    step = document.get(path)
    if isinstance(step, str):
        document.wrap(path, step)
        document.replace((*path, step), None)
        step = document.get(path)
    if not isinstance(step, dict) or len(step) != 1:
        return
    (action,) = step
    if step[action] is None:
        document.replace((*path, action), {})
    _scalar(document, (*path, action), lambda: first_parameter(action))


def _scalar(document: Document, path: Path, key: Callable[[], str | None]) -> None:
    value = document.get(path)
    if value is not None and not isinstance(value, dict | list) and (name := key()):
        document.wrap(path, name)


def first_parameter(action: str) -> str | None:
    """The parameter that a lone value of a step stands for; None when the step is unknown or takes nothing."""
    if action == "freeze":
        return "policy"
    if action in STEPS:
        return next(iter(STEPS[action].model_fields))
    try:
        known = parameters_of(registry.load(action, "surgeries"), "surgeries")
    except InputError:
        return None
    return next(iter(known), None)
