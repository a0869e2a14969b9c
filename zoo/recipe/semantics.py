"""Mistakes that no single value shows: keys that need each other, and steps that need something of the recipe."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from zoo.errors import Location
from zoo.file_name import as_name, name_mistake, same_name
from zoo.recipe.document import Document, Path, label, walk
from zoo.recipe.recipe import Step
from zoo.recipe.steps import Evaluate, Init, Look, Save, Train
from zoo.recipe.words import shown

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
        message = f"save: {name!r} is written by the save step in line {saved[name.casefold()].line} already"
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
