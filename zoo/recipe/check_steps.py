"""Checks the steps: each against its options or its component's signature, then all of them together."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, cast

from zoo import registry
from zoo.errors import Location, did_you_mean
from zoo.file_name import as_name, name_mistake, same_name
from zoo.recipe import references
from zoo.recipe.document import Document, Path, label, walk
from zoo.recipe.options import STEPS, Evaluate, Init, Look, Options, Save, Train
from zoo.recipe.recipe import Kind, Step
from zoo.recipe.references import check_argument_names, check_option_names, check_remap, check_weights, is_file
from zoo.recipe.signature import Parameter, model_of
from zoo.recipe.validate import shown, validate

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
    known = [key for key in keys if key in BUILT_IN or references.called(key, "surgeries")]
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
        references.find_component(document, path, name, "datasets")


def _freeze(document: Document, index: int) -> Step | None:
    path: Path = (*STEPS_PATH, index, "freeze")
    given = document.get(path)
    policy = given.get("policy") if isinstance(given, dict) else None
    if not isinstance(policy, str):
        _no_policy(document, path, given)
        return None
    component = references.find_component(document, (*path, "policy"), policy, "freezing")
    arguments = {key: value for key, value in given.items() if key != "policy"}
    known = _judge(document, path, component, arguments, kind="freezing")
    if component is None or known is None:
        return None
    return _made(document, index, "freeze", "freeze", component=component.name, arguments=arguments)


def _no_policy(document: Document, path: Path, given: Any) -> None:
    """A freeze step without a policy's name; the mapping may show which one was meant."""
    policies = references.written_names("freezing")
    first = next(iter(given), "") if isinstance(given, dict) else ""
    if first in policies:
        known = references.parameters_of(registry.load(first, "freezing"), "freezing")
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
    if not references.called(action, "surgeries"):
        references.unknown_step(document, path, action, BUILT_IN)
        return None
    component = references.find_component(document, path, action, "surgeries", at_key=True)
    arguments = document.get(path)
    known = _judge(document, path, component, arguments, kind="surgeries")
    if component is None or known is None:
        return None
    return _made(document, index, action, "surgery", component=component.name, arguments=arguments)


def _judge(
    document: Document, path: Path, component: registry.Component | None, arguments: Any, *, kind: str
) -> dict[str, Parameter] | None:
    """Check arguments against a component's signature; its parameters when all of them fit."""
    loaded = references.load(document, path, component, at_key=True) if component else None
    if loaded is None:
        return None
    known = references.parameters_of(loaded, kind)
    if not isinstance(arguments, dict):
        document.add(path, f"{label(path)}: expected a mapping, got {shown(arguments)}", _first(known, arguments))
        return None
    model = model_of(known, extra="allow" if references.accepts_anything(loaded) else "forbid")
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


SUFFIX = ".safetensors"
FINISHED = "model"  # the name of the checkpoint that every run ends with
_CLASS_LOSSES = ("auto", "cross_entropy", "CrossEntropyLoss")


def check_chain(document: Document, steps: Sequence[Step | None]) -> None:
    """Check the sound steps in themselves and against the rest of the recipe."""
    has_data = document.get(("data",)) is not None
    saved: dict[str, Location] = {}
    for step in steps:
        if step is None:
            continue
        path = ("steps", step.index, step.action)
        if not has_data:
            _needs_data(document, path, step)
        if step.kind in _RULES:
            _RULES[step.kind](document, path, step.options)
        if isinstance(step.options, Save):
            _saved_before(document, path, step, saved)


def _needs_data(document: Document, path: Path, step: Step) -> None:
    own = isinstance(step.options, Evaluate) and step.options.data is not None
    if step.kind in ("train", "probe", "evaluate", "look") and not own:
        document.add(path, f"{step.action} needs data, and the recipe has no data section", _ADD_DATA, at_key=True)
    for place, value in walk(step.arguments) if step.kind == "surgery" else ():
        if value == "auto" and place[-1:] == ("num_classes",):
            where = (*path, *place)
            message = f"{step.action}: num_classes auto needs data, and the recipe has no data section"
            document.add(where, message, "write the number of classes, or add a data section")


_ADD_DATA = "add data: {source: …}; see: zoo list --kind datasets"


def _train(document: Document, path: Path, options: Train) -> None:
    if options.epochs is None and options.max_steps is None:
        document.add(path, "train: epochs is missing", "write epochs, or max_steps", at_key=True)
    if options.warmup > 1 and options.warmup != int(options.warmup):
        place = (*path, "warmup")
        document.add(place, f"train.warmup: {options.warmup} is neither a share below 1 nor a whole number of steps")
    for pattern in options.lr_scale:
        _expression(document, (*path, "lr_scale", pattern), pattern, at_key=True)
    loss = next(iter(options.loss)) if isinstance(options.loss, dict) else options.loss
    if options.label_smoothing and loss not in _CLASS_LOSSES:
        place = (*path, "label_smoothing")
        document.add(place, f"train.label_smoothing does nothing with the loss {loss}", "remove it", at_key=True)


def _init(document: Document, path: Path, options: Init) -> None:
    """Two forms: initializers for chosen modules, or one parameter set to a value."""
    single = [key for key in ("parameter", "value", "index") if getattr(options, key) is not None]
    several = [key for key in ("match", "type", "weight", "bias") if getattr(options, key) is not None]
    if single and several:
        message = f"init: {several[0]} fills modules and {single[0]} one parameter; a step does one of the two"
        document.add((*path, several[0]), message, "write two init steps", at_key=True)
    elif single:
        for needed in ("parameter", "value"):
            if needed not in single:
                document.add(path, f"init: {needed} is missing", f"write {needed} beside {single[0]}", at_key=True)
    elif options.weight is None and options.bias is None:
        hint = "write weight or bias, for instance {weight: {normal: {std: 0.01}}}"
        document.add(path, "init: nothing to fill in with", hint, at_key=True)
    if options.match is not None:
        _expression(document, (*path, "match"), options.match)


def _look(document: Document, path: Path, options: Look) -> None:
    if not (options.modules or options.graph or options.images):
        document.add(
            path, "look: there is nothing to look at", "write modules, graph: true or images: true", at_key=True
        )


def _expression(document: Document, path: Path, expression: str, *, at_key: bool = False) -> None:
    try:
        re.compile(expression)
    except (re.error, RecursionError, OverflowError) as error:
        document.add(path, f"{label(path[:4])}: {expression!r} is not a regular expression: {error}", at_key=at_key)


def _save(document: Document, path: Path, options: Save) -> None:
    """A checkpoint stays in the run's folder whatever a shared recipe says, and is not written over by the last one."""
    name = _file(options)
    if options.only == "trainable" and document.get(("model", "weights")) is None:
        message = "save: only trainable lays over base weights, and model has none"
        document.add((*path, "only"), message, "write only: all, or give model weights")
    if mistake := name_mistake(name, SUFFIX):
        message = f"save.name: {shown(options.name)} cannot name a file in the run's folder: {mistake}"
        document.add((*path, "name"), message, f"write {as_name(name, 'saved', SUFFIX)}")
    elif same_name(name, FINISHED):
        message = f"save.name: {FINISHED}{SUFFIX} is the finished model, which would replace this one"
        document.add((*path, "name"), message, "write saved, or remove the step: the finished model is saved anyway")


def _saved_before(document: Document, path: Path, step: Step, saved: dict[str, Location]) -> None:
    assert isinstance(step.options, Save)
    name = _file(step.options)
    if name.casefold() in saved:  # macOS and Windows do not tell capitals apart
        message = f"save: {name!r} is written by the save step in {saved[name.casefold()].within} already"
        document.add(path, message, "give it another name", at_key=True)
    saved.setdefault(name.casefold(), step.location)


def _file(options: Save) -> str:
    return options.name.removesuffix(SUFFIX)


_RULES: dict[str, Callable[[Document, Path, Any], None]] = {
    "train": _train,
    "init": _init,
    "look": _look,
    "save": _save,
}
