"""Checks values that name something (an optimizer, a loss, a module, …) and the arguments given with the name."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from zoo.errors import InputError
from zoo.recipe.document import Document, Path, label
from zoo.recipe.named import SUPPLIED, Factory, find
from zoo.recipe.signature import Parameter, is_open, model_of, parameters
from zoo.recipe.steps import NameOf
from zoo.recipe.validate import validate
from zoo.recipe.words import shown

_WHERE_ELSE = {"optimizers": ("lr", "weight_decay")}  # options of the step, not of what it names
_MODULE_FORM = "for instance ReLU or {Linear: {out_features: 10}}"


def check_option_names(document: Document, path: Path, options: type[BaseModel]) -> None:
    """Check every named value among the keys at `path`, which `options` describes."""
    _check_each(document, path, typing.get_type_hints(options, include_extras=True))


def check_argument_names(document: Document, path: Path, known: Mapping[str, Parameter]) -> None:
    """Check every named value among the arguments at `path`."""
    _check_each(document, path, {name: parameter.kind for name, parameter in known.items()})


def _check_each(document: Document, path: Path, annotations: Mapping[str, Any]) -> None:
    for key, annotation in annotations.items():
        kind = name_kind(annotation)
        written = document.get((*path, key))
        if kind is None or written is None:
            continue
        for place in _places((*path, key), written):
            check_named(document, place, kind)


def _places(path: Path, written: Any) -> Iterator[Path]:
    if isinstance(written, list):
        yield from ((*path, index) for index in range(len(written)))
    else:
        yield path


def name_kind(annotation: Any) -> str | None:
    """The kind of thing a type's values name, wherever the mark stands in it; None when they name nothing."""
    if isinstance(annotation, NameOf):
        return annotation.kind
    inner = [*typing.get_args(annotation), *getattr(annotation, "__metadata__", ())]
    return next((kind for kind in map(name_kind, inner) if kind), None)


def check_named(document: Document, path: Path, kind: str) -> None:
    """Check one name, or one name with its arguments. Values of another form are left to the caller's schema."""
    value = document.get(path)
    if isinstance(value, dict) and len(value) == 1:
        ((name, arguments),) = value.items()
        inner: Path = (*path, name)
    elif isinstance(value, str):
        name, arguments, inner = value, {}, path
    elif kind == "modules":
        what = label(path) or "module"
        return document.add(path, f"{what}: a module is one name, with or without arguments", _MODULE_FORM)
    else:
        return None
    if kind == "modules" and name == "Sequential":
        return _check_chain(document, inner, arguments)
    try:
        factory = find(kind, name)
    except InputError as error:
        for problem in error.problems:
            document.add(inner, problem.message, problem.suggestion, at_key=True)
        return None
    if factory is not None:
        _check_arguments(document, inner, kind, name, factory, arguments)
    return None


def _check_chain(document: Document, path: Path, parts: Any) -> None:
    """`Sequential` holds modules: a list of them, or a mapping that names them."""
    if not isinstance(parts, list | dict):
        document.add(path, f"Sequential: expected a list of modules, got {shown(parts)}", _MODULE_FORM)
        return
    for key in parts if isinstance(parts, dict) else range(len(parts)):
        if key == "" or "." in str(key):
            document.add((*path, key), f"a module inside Sequential cannot be called {key!r}", "no dots", at_key=True)
        check_named(document, (*path, key), "modules")


def _check_arguments(document: Document, path: Path, kind: str, name: str, factory: Factory, given: Any) -> None:
    first, supplied = SUPPLIED[kind]
    known = parameters(factory, first=first, skip=supplied, auto=kind == "modules")
    arguments = given
    if kind == "modules" and given is not None and not isinstance(given, dict):  # `{Dropout: 0.5}`: the first parameter
        if not known:
            return document.add(path, f"{name} takes no arguments, got {shown(given)}")
        arguments = {next(iter(known)): given}
    for key in [key for key in arguments or {} if key in _WHERE_ELSE.get(kind, ())]:
        document.add(
            (*path, key),
            f"{label(path)}: {key} is an option of the step",
            f"write {key} beside {path[-2]}",
            at_key=True,
        )
        known[key] = Parameter(Any, required=False)
    model = model_of(known, optional=kind != "initializers", extra="allow" if is_open(factory) else "forbid")
    if validate(document, path, model, arguments or {}) and given is arguments:
        check_argument_names(document, path, known)
    return None
