"""The chain of a recipe: which step each name stands for, each read by its class, then all of them together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zoo import registry
from zoo.errors import InputError
from zoo.recipe import references
from zoo.recipe.document import Document, Path
from zoo.recipe.step import Place, Step, is_step, require_data
from zoo.recipe.validate import shown

STEPS: Path = ("steps",)
SURGERY = "surgery"  # zoo's step that stands behind the name of every surgery, and is none by its own


def check_steps(document: Document) -> list[Step | None]:
    """Every step in order; None stands for one with mistakes."""
    steps = document.get(STEPS)
    if not isinstance(steps, list):
        return []
    return [_check_step(document, index, step) for index, step in enumerate(steps)]


def _check_step(document: Document, index: int, step: Any) -> Step | None:
    path = (*STEPS, index)
    if not isinstance(step, dict) or not step:
        document.add(path, f"a step is a name or a name with its options, not {shown(step)}", "for instance train: 3")
        return None
    if len(step) > 1:
        _too_many(document, path, list(step))
        return None
    (action,) = step
    component = _component(document, (*path, action), action)
    loaded: Any = references.load(document, (*path, action), component, at_key=True) if component else None
    if component is None or loaded is None:
        return None
    if not is_step(loaded):
        message = f"{component.name} is no step: {component.target} does not derive from zoo.api.Step"
        document.add((*path, action), message, f"report it to the authors of {component.distribution}", at_key=True)
        return None
    read: Step | None = loaded.read(document, (*path, action))
    return read and read.at(Place(action, name_of(component), index, document.key((*path, action))))


def _too_many(document: Document, path: Path, keys: list[str]) -> None:
    known = [key for key in keys if meant(key)]
    first, other = keys[0], next(key for key in keys if key != keys[0])
    if known == [first]:
        hint = f"indent {other} deeper than {first}, if it belongs to it"
    else:
        hint = "begin each step with '- '"
    document.add((*path, other), f"a step has one name, this one has {', '.join(keys)}", hint, at_key=True)


def _component(document: Document, path: Path, action: str) -> registry.Component | None:
    """The step's component, the same one for every surgery; None, and a mistake, where there is none or several."""
    found = meant(action)
    if not found:
        references.unknown_step(document, path, action, step_names())
        return None
    kinds = {row.kind for row in found}
    if len(found) > 1 and kinds != {"surgeries"}:
        listed = ", ".join(f"{row.name} ({row.kind}, {row.distribution} {row.version})" for row in found)
        document.add(path, f"{action!r} is ambiguous: {listed}", "write the full name", at_key=True)
        return None
    return found[0] if kinds == {"steps"} else surgery_step()


def meant(action: str) -> list[registry.Component]:
    """The steps and surgeries that the word may stand for. zoo's own steps go before what plugins call the same."""
    steps = [row for row in registry.named(action, "steps") if not _is_surgery(row)]
    first = [row for row in steps if row.name == action or row.distribution == registry.CORE]
    return first[:1] or [*steps, *registry.named(action, "surgeries")]


def actions_of(component: registry.Component) -> list[str]:
    """The words for one step or surgery: in short where nothing else is meant by that, and in full."""
    return [word for word in (component.short, component.name) if meant(word) == [component]]


def step_names() -> list[str]:
    """How people write the steps, surgeries left out."""
    return [words[0] for row in _steps() if row.status == "ok" and (words := actions_of(row))]


def name_of(component: registry.Component) -> str:
    """What reports call a step: zoo's own in short, a plugin's in full."""
    return component.short if component.distribution == registry.CORE else component.name


def step_class(name: str) -> type[Step] | None:
    """The class of a step by its name in a report; None where it is not installed, or broken."""
    rows = [row for row in _steps() if name == name_of(row)]
    try:
        loaded = registry.load(rows[0]) if rows else None
    except InputError:
        return None
    return loaded if is_step(loaded) else None


def surgery_step() -> registry.Component:
    """The component of the step that stands behind every surgery's name."""
    return next(row for row in registry.components("steps") if _is_surgery(row))


def _steps() -> list[registry.Component]:
    return [row for row in registry.components("steps") if not _is_surgery(row)]


def _is_surgery(row: registry.Component) -> bool:
    return row.distribution == registry.CORE and row.short == SURGERY


def first_option(action: str) -> str | None:
    """The option that a lone value of a step stands for; None when the step is unknown or takes nothing."""
    found = meant(action)
    try:
        if len(found) != 1:
            return None
        loaded = registry.load(found[0])
        if found[0].kind == "surgeries":
            return next(iter(references.parameters_of(loaded, "surgeries")), None)
    except InputError:
        return None
    return loaded.first_option() if is_step(loaded) else None


def check_chain(document: Document, steps: Sequence[Step | None]) -> None:
    """Check the sound steps in themselves and against the rest of the recipe."""
    earlier: list[Step] = []
    for step in steps:
        if step is not None:
            if step.needs_data:
                require_data(document, step.place)
            step.check_options(document, earlier)
            earlier.append(step)
