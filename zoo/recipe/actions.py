"""Checks the steps: each against its options, or against the signature of the component it names."""

from __future__ import annotations

from typing import Any, cast

from zoo import registry
from zoo.errors import did_you_mean
from zoo.recipe import components
from zoo.recipe.document import Document, Path, label
from zoo.recipe.naming import check_argument_names, check_option_names
from zoo.recipe.recipe import Kind, Step
from zoo.recipe.signature import Parameter, model_of
from zoo.recipe.steps import STEPS, Options
from zoo.recipe.validate import validate
from zoo.recipe.weights import check_remap, check_weights, is_file
from zoo.recipe.words import shown

BUILT_IN = [*STEPS, "freeze"]
STEPS_PATH: Path = ("steps",)


def check_steps(document: Document) -> list[Step | None]:
    """Every step in order; None stands for one with mistakes."""
    steps = document.get(STEPS_PATH)
    if not isinstance(steps, list):
        return []
    return [_check_step(document, index, step) for index, step in enumerate(steps)]


def _check_step(document: Document, index: int, step: Any) -> Step | None:
    path = (*STEPS_PATH, index)
    if not isinstance(step, dict) or not step:
        document.add(path, f"a step is a name or a name with its options, not {shown(step)}", "for instance train: 3")
        return None
    if len(step) > 1:
        _too_many(document, path, list(step))
        return None
    (action,) = step
    if action == "freeze":
        return _freeze(document, index)
    if action in STEPS:
        return _built_in(document, index, action)
    return _surgery(document, index, action)


def _too_many(document: Document, path: Path, keys: list[str]) -> None:
    known = [key for key in keys if key in BUILT_IN or components.called(key, "surgeries")]
    first, other = keys[0], next(key for key in keys if key != keys[0])
    if known == [first]:
        hint = f"indent {other} deeper than {first}, if it belongs to it"
    else:
        hint = "begin each step with '- '"
    document.add((*path, other), f"a step has one name, this one has {', '.join(keys)}", hint, at_key=True)


def _built_in(document: Document, index: int, action: str) -> Step | None:
    path: Path = (*STEPS_PATH, index, action)
    options = validate(document, path, STEPS[action])
    if isinstance(document.get(path), dict):
        check_option_names(document, path, STEPS[action])
    if action == "load":
        weights = check_weights(document, (*path, "weights"), None)
        check_remap(document, (*path, "remap"))
        options = options and options.model_copy(update={"weights": weights})
    if action == "evaluate":
        _check_other_data(document, (*path, "data"))
    if options is None:
        return None
    return _made(document, index, action, cast(Kind, action), options=options)


def _check_other_data(document: Document, path: Path) -> None:
    """Note data to evaluate on that is neither a folder, nor a CSV file, nor a dataset."""
    name = document.get(path)
    if not isinstance(name, str) or is_file(name):
        return
    if "/" in name and (name.startswith((".", "/", "~")) or name.endswith((".csv", "/"))):
        document.add(
            path, f"{label(path)}: there is no folder or file {name}", "paths count from the current directory"
        )
    else:
        components.find(document, path, name, "datasets")


def _freeze(document: Document, index: int) -> Step | None:
    path: Path = (*STEPS_PATH, index, "freeze")
    given = document.get(path)
    policy = given.get("policy") if isinstance(given, dict) else None
    if not isinstance(policy, str):
        _no_policy(document, path, given)
        return None
    component = components.find(document, (*path, "policy"), policy, "freezing")
    arguments = {key: value for key, value in given.items() if key != "policy"}
    known = _judge(document, path, component, arguments, kind="freezing")
    if component is None or known is None:
        return None
    return _made(document, index, "freeze", "freeze", component=component.name, arguments=arguments)


def _no_policy(document: Document, path: Path, given: Any) -> None:
    """A freeze step without a policy's name; the mapping may show which one was meant."""
    policies = components.written_names("freezing")
    first = next(iter(given), "") if isinstance(given, dict) else ""
    if first in policies:
        known = components.parameters_of(registry.load(first, "freezing"), "freezing")
        key = f", {next(iter(known))}: {shown(given[first])}" if known else ""
        hint = f"write freeze: {{policy: {first}{key}}}"
    elif isinstance(given, list):
        hint = "write freeze: {policy: pattern, patterns: [...]}"
    else:
        hint = did_you_mean(str(first), ["policy"]) or f"policies: {', '.join(policies)}"
    got = "nothing" if given in ({}, None) else "no policy" if isinstance(given, dict) else shown(given)
    document.add(path, f"freeze: expected a policy's name, got {got}", hint, at_key=True)


def _surgery(document: Document, index: int, action: str) -> Step | None:
    path: Path = (*STEPS_PATH, index, action)
    if not components.called(action, "surgeries"):
        components.unknown_step(document, path, action, BUILT_IN)
        return None
    component = components.find(document, path, action, "surgeries", at_key=True)
    arguments = document.get(path)
    known = _judge(document, path, component, arguments, kind="surgeries")
    if component is None or known is None:
        return None
    return _made(document, index, action, "surgery", component=component.name, arguments=arguments)


def _judge(
    document: Document, path: Path, component: registry.Component | None, arguments: Any, *, kind: str
) -> dict[str, Parameter] | None:
    """Check arguments against a component's signature; its parameters when all of them fit."""
    loaded = components.load(document, path, component, at_key=True) if component else None
    if loaded is None:
        return None
    known = components.parameters_of(loaded, kind)
    if not isinstance(arguments, dict):
        document.add(path, f"{label(path)}: expected a mapping, got {shown(arguments)}", _first(known, arguments))
        return None
    model = model_of(known, extra="allow" if components.accepts_anything(loaded) else "forbid")
    sound = validate(document, path, model, arguments)
    check_argument_names(document, path, known)
    return known if sound else None


def _first(known: dict[str, Parameter], arguments: Any) -> str | None:
    given = "…" if isinstance(arguments, list) else shown(arguments)
    return f"write {{{next(iter(known))}: {given}}}" if known else None


def _made(
    document: Document,
    index: int,
    action: str,
    kind: Kind,
    *,
    component: str | None = None,
    arguments: dict[str, Any] | None = None,
    options: Options | None = None,
) -> Step:
    location = document.key((*STEPS_PATH, index, action))
    given = document.get((*STEPS_PATH, index, action)) if arguments is None else arguments
    return Step(action, kind, component, given, options, location, index)
