"""Run a surgery on an assembly and keep a record of it that can be replayed."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from zoo import registry
from zoo.contracts import Context
from zoo.errors import InputError, Problem, WorkError, did_you_mean, listed
from zoo.model.assembly import Assembly
from zoo.model.freezing import Snapshot
from zoo.model.module_spec import ModuleSpec, plain
from zoo.model.shapes import ModuleShapes
from zoo.plugin_calls import call, expect
from zoo.recipe.signature import alternatives, annotated, converted
from zoo.remap.rules.adapt import plain as same_label

BY_CLASS = ("weight", "pos_weight")  # what a loss has of each output
_OWN = ("model", "context")  # what zoo hands a surgery itself


def operate(assembly: Assembly, component: str, arguments: Mapping[str, Any], context: Context) -> Assembly:
    """Run the surgery called `component` on `assembly.model` and append the record to `assembly.operations`.

    `auto` is filled in from `context`. The record names every argument, defaults and inferred values included, so that
    `replay` gives the same structure without inferring anything. Returns the assembly, changed in place.
    Raises InputError for arguments the surgery does not take and for what the surgery itself finds wrong, WorkError
    when the surgery fails.
    """
    entry = registry.resolve(component, "surgeries")
    surgery = registry.load(entry)
    own = replace(context, resolved={}, model_classes=assembly.classes, notes=[], takes_back=[])
    bound = _bind(entry.name, surgery, arguments, own)
    changed = _run(assembly, entry, surgery, bound, own)
    assembly.notes += own.notes
    known = assembly.classes
    if changed:
        said = f"{entry.name} set requires_grad of {listed(changed)}: put back, since freezing is for a freeze step"
        assembly.notes.append(said)
    if "num_classes" in bound:  # what gives so many scores is another head
        count = own.resolved.get("num_classes", bound["num_classes"])
        assembly.classes = context.classes if count == len(context.classes) else ()
    record = {"surgery": entry.name, "arguments": plain({**bound, **own.resolved})}
    try:
        json.dumps(record, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise WorkError(f"{entry.name} makes a record that no checkpoint can contain: {error}") from error
    assembly.operations.append(record)
    _note_obsolete(assembly, own.takes_back)
    _name_outputs(assembly, record, context)
    new_head = entry.name == "zoo/swap_head"
    if new_head or assembly.classes != known:
        _forget_head(assembly, fresh=new_head and bound.get("reuse") != "by_label")
    return assembly


def _forget_head(assembly: Assembly, *, fresh: bool) -> None:
    """Drop what was said of the outputs of a head that is no more: class weights of the loss, and the thresholds, of
    which labels that are still there keep theirs unless all of the head is `fresh`."""
    before = {} if fresh else {same_label(name): value for name, value in assembly.thresholds.items()}
    found = {name: before.get(same_label(name)) for name in assembly.classes}
    assembly.thresholds = {name: value for name, value in found.items() if value is not None}
    loss = (assembly.evaluation or {}).get("loss")
    if assembly.evaluation is not None and isinstance(loss, dict):
        without = {name: {k: v for k, v in given.items() if k not in BY_CLASS} for name, given in loss.items()}
        assembly.evaluation = {**assembly.evaluation, "loss": without}


def _note_obsolete(assembly: Assembly, taken_back: Sequence[str]) -> None:
    """Note that the last operation took back those of these surgeries that were done since the network was built."""
    last = len(assembly.operations) - 1
    if taken_back:
        undone = {index for index in range(last) if assembly.operations[index]["surgery"] in taken_back}
        assembly.obsolete |= {*undone, last}


def _name_outputs(assembly: Assembly, record: Mapping[str, Any], context: Context) -> None:
    """Name outputs that a surgery changed as the data does, where it has as many classes; never by their old names."""
    if not assembly.classes and context.num_classes is None:
        return
    new_head = record["surgery"] == "zoo/swap_head"
    if new_head:
        width = record["arguments"]["num_classes"]
    else:
        shape = ModuleShapes(assembly.model, context).prediction()
        width = shape[-1] if shape else len(assembly.classes)
    if not new_head and width == len(assembly.classes):
        return
    assembly.classes = ()
    if context.num_classes == width:
        assembly.classes, assembly.task = context.classes, context.task


def replay(assembly: Assembly, operations: Iterable[Mapping[str, Any]]) -> Assembly:
    """Run recorded operations on a freshly built assembly, in place.

    Raises InputError for a record that is not one, names a surgery that is not installed or does not fit the model.
    """
    context = Context(preprocessing=assembly.preprocessing, classes=assembly.classes, task=assembly.task)
    for record in operations:
        if not isinstance(record, Mapping) or set(record) != {"surgery", "arguments"}:
            raise InputError(f"not the record of an operation: {record!r}")
        entry = registry.resolve(record["surgery"], "surgeries")
        surgery = registry.load(entry)
        own = replace(context, resolved={})
        _run(assembly, entry, surgery, _bind(entry.name, surgery, record["arguments"], own), own)
        assembly.operations.append({"surgery": entry.name, "arguments": dict(record["arguments"])})
    return assembly


def _run(
    assembly: Assembly,
    entry: registry.Component,
    surgery: Callable[..., Any],
    arguments: dict[str, Any],
    context: Context,
) -> list[str]:
    """Let the surgery work on the model. What was frozen stays so, under the names it has then, what it added trains,
    and whether a parameter that was there trains is none of its business; returns those for which it had changed that.
    """
    handed = {"context": context} if "context" in inspect.signature(surgery).parameters else {}
    before = Snapshot(assembly.model)
    model = call(entry, lambda: surgery(assembly.model, **converted(surgery, arguments), **handed))
    expect(entry, model, nn.Module, "the model: a surgery returns it")
    assembly.model = model
    changed = before.restore_flags(model)
    if assembly.frozen is not None:
        assembly.frozen = before.refreeze(model)
    return changed


def _bind(name: str, surgery: Callable[..., Any], given: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Every argument by name: given, `auto` filled in, modules parsed, defaults written out. Raises InputError."""
    parameters = annotated(surgery, {"ModuleSpec": ModuleSpec})
    known = {key: parameter for key, parameter in parameters.items() if key not in _OWN}
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    named = {k: v for k, v in known.items() if v.kind not in (v.VAR_KEYWORD, v.VAR_POSITIONAL)}
    problems = [
        Problem(f"{name} takes no argument {key!r}", None, did_you_mean(key, named) or f"it takes {', '.join(named)}")
        for key in given
        if key not in named and not open_ended
    ]
    bound = {key: given[key] for key in given if open_ended and key not in named}
    for key, parameter in named.items():
        try:
            bound[key] = _value(name, key, parameter, given, context)
        except InputError as error:
            problems.extend(error.problems)
    if problems:
        raise InputError(problems)
    return bound


def _value(name: str, key: str, parameter: inspect.Parameter, given: Mapping[str, Any], context: Context) -> Any:
    if key not in given:
        if parameter.default is parameter.empty:
            raise InputError(f"{name} needs {key}")
        return parameter.default
    value = given[key]
    if isinstance(value, str) and value == "auto" and int in alternatives(parameter.annotation):
        return _from_context(name, key, context)
    return _parsed(value, parameter.annotation, context)


def _from_context(name: str, key: str, context: Context) -> Any:
    value = getattr(context, key, None)
    if value is None:
        raise InputError(f"{name}: {key} is auto, but the data does not say", suggestion=f"write a number for {key}")
    return value


def _parsed(value: Any, annotation: Any, context: Context) -> Any:
    """`value` with modules read where the annotation says so: by themselves, in a list or in a mapping."""
    for kind in alternatives(annotation):
        origin, inner = typing.get_origin(kind), typing.get_args(kind)
        if kind is ModuleSpec and value is not None:
            return _with_classes(ModuleSpec.parse(value), context)
        if origin is dict and isinstance(value, Mapping):
            return {key: _parsed(item, inner[1], context) for key, item in value.items()}
        if origin is list and isinstance(value, list):
            return [_parsed(item, inner[0], context) for item in value]
    return value


def _with_classes(spec: ModuleSpec, context: Context) -> ModuleSpec:
    """`out_features: auto` inside a module is the number of classes, too."""
    for part in (*spec.parts.values(), *(value for value in spec.arguments.values() if isinstance(value, ModuleSpec))):
        _with_classes(part, context)
    for key in ("out_features", "out_channels", "num_classes"):
        if spec.arguments.get(key) == "auto" and isinstance(spec.arguments[key], str):
            spec.arguments[key] = _from_context(spec.name, "num_classes", context)
    return spec
