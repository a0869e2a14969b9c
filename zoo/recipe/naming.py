"""Checks values that name something (an optimizer, a loss, a module, …) and the arguments given with the name."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Union

from pydantic import BaseModel

from zoo.errors import InputError
from zoo.recipe.document import Document, Path, label
from zoo.recipe.named import FILLED, SUPPLIED, Factory, find
from zoo.recipe.signature import Parameter, is_open, model_of, parameters
from zoo.recipe.steps import NameOf
from zoo.recipe.validate import MODULE_FORM, validate
from zoo.recipe.words import shown


def check_option_names(document: Document, path: Path, options: type[BaseModel]) -> None:
    """Check every named value among the keys at `path`, which `options` describes."""
    _check_each(document, path, typing.get_type_hints(options, include_extras=True))


def check_argument_names(document: Document, path: Path, known: Mapping[str, Parameter]) -> None:
    """Check every named value among the arguments at `path`."""
    _check_each(document, path, {name: parameter.kind for name, parameter in known.items()})


def _check_each(document: Document, path: Path, annotations: Mapping[str, Any]) -> None:
    for key, annotation in annotations.items():
        written = document.get((*path, key))
        for place, kind in named_places(annotation, (*path, key), written):
            check_named(document, place, kind)


def named_places(annotation: Any, path: Path, written: Any) -> Iterator[tuple[Path, str]]:
    """Where in a written value, of a type that holds `NameOf` marks, names stand, and of which kind."""
    marks = [mark.kind for mark in getattr(annotation, "__metadata__", ()) if isinstance(mark, NameOf)]
    if written is None:
        return
    if marks:
        yield path, marks[0]
        return
    inner, origin = typing.get_args(annotation), typing.get_origin(annotation)
    if origin is list:
        for index, item in enumerate(written if isinstance(written, list) else ()):
            yield from named_places(inner[0], (*path, index), item)
    elif origin is dict:
        for key, item in written.items() if isinstance(written, dict) else ():
            yield from named_places(inner[1], (*path, key), item)
    elif origin in (Annotated, Union, types.UnionType):
        for member in inner if origin is not Annotated else inner[:1]:
            yield from named_places(member, path, written)


def check_named(document: Document, path: Path, kind: str) -> None:
    """Check one name, or one name with its arguments. Values of another form are the caller's to judge."""
    value = document.get(path)
    if isinstance(value, dict) and len(value) == 1:
        ((name, arguments),) = value.items()
        inner: Path = (*path, name)
    elif isinstance(value, str):
        name, arguments, inner = value, {}, path
    else:
        return None
    if kind == "modules" and name == "Sequential":
        return _check_chain(document, inner, arguments)
    try:
        factory = find(kind, name)
    except InputError as error:
        for problem in error.problems:
            document.add(inner, problem.message, problem.suggestion, at_key=inner != path)
        return None
    if factory is not None:
        _check_arguments(document, inner, kind, name, factory, arguments)
    return None


def _check_chain(document: Document, path: Path, parts: Any) -> None:
    """`Sequential` holds modules: a list of them, or a mapping that names them."""
    if not isinstance(parts, list | dict):
        document.add(path, f"Sequential: expected a list of modules, got {shown(parts)}", MODULE_FORM)
        return
    for key in parts if isinstance(parts, dict) else range(len(parts)):
        if key == "" or "." in str(key):
            document.add((*path, key), f"a module inside Sequential cannot be called {key!r}", "no dots", at_key=True)
        if not isinstance(parts[key], str) and not (isinstance(parts[key], dict) and len(parts[key]) == 1):
            said = f"{label((*path, key))}: expected a module by name, got {shown(parts[key])}"
            document.add((*path, key), said, MODULE_FORM)
        check_named(document, (*path, key), "modules")


def _check_arguments(document: Document, path: Path, kind: str, name: str, factory: Factory, given: Any) -> None:
    if kind != "modules" and not isinstance(given, dict):
        return None  # the form of the value is the caller's to judge
    first, supplied = SUPPLIED[kind]
    known = parameters(factory, first=first, skip=supplied, auto=kind == "modules")
    arguments = given
    if kind == "modules" and given is not None and not isinstance(given, dict):  # `{Dropout: 0.5}`: the first parameter
        if not known:
            return document.add(path, f"{name} takes no arguments, got {shown(given)}")
        arguments = {next(iter(known)): given}
    if kind == "optimizers" and "lr" in arguments:  # two learning rates would contradict each other
        document.add((*path, "lr"), f"{label(path)}: lr is an option of the step", "write lr beside it", at_key=True)
        known["lr"] = Parameter(Any, required=False)
    if kind in ("modules", "metrics"):  # the model and the data tell the rest
        filled: Iterable[str] = known
    else:
        filled = FILLED.get(name, ())
    known |= {key: replace(known[key], required=False) for key in filled}
    lacking = [key for key, parameter in known.items() if parameter.required]
    if lacking and not arguments and path[-1] != name:  # a bare name where arguments are due
        hint = f"write {{{name}: {{{', '.join(f'{key}: …' for key in lacking)}}}}}"
        return document.add(path, f"{label(path)}: {name} needs {', '.join(lacking)}", hint)
    model = model_of(known, extra="allow" if is_open(factory) else "forbid")
    if validate(document, path, model, arguments or {}) and given is arguments:
        check_argument_names(document, path, known)
    return None
