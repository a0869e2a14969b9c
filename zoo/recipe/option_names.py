"""Names in options, with arguments or alone: losses, metrics, optimizers, transforms and modules, found and checked."""

from __future__ import annotations

import contextlib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Union

from pydantic import BaseModel

from zoo import registry
from zoo.errors import InputError
from zoo.recipe.catalogue import (
    FILLED,
    FILLED_FOR_PLUGINS,
    OF_TRANSFORMS,
    TIMM_WARMUP,
    Factory,
    component_of,
    find,
    supplied,
)
from zoo.recipe.document import Document, Path, label
from zoo.recipe.options import NameOf, TransformName
from zoo.recipe.signature import Parameter, is_open, model_of, parameters
from zoo.recipe.validate import MODULE_FORM, shown, validate


def check_option_names(document: Document, path: Path, options: type[BaseModel]) -> None:
    """Check every named value among the keys at `path`, which `options` describes."""
    _check_each(document, path, typing.get_type_hints(options, include_extras=True))


def expand_lone_values(document: Document, path: Path, options: type[BaseModel]) -> None:
    """Write `{constant: -4.6}` out as `{constant: {val: -4.6}}`: a lone value is a name's first argument."""
    for key, annotation in typing.get_type_hints(options, include_extras=True).items():
        for place, kind in named_places(annotation, (*path, key), document.get((*path, key))):
            written = document.get(place)
            if kind == "modules" or not isinstance(written, dict) or len(written) != 1:
                continue  # modules take one themselves
            ((name, given),) = written.items()
            if not isinstance(given, int | float | str | list):
                continue
            with contextlib.suppress(InputError):  # an unknown name is noted where names are checked
                if (factory := find(kind, name)) is None:
                    continue
                first, by_name = supplied(kind, factory)
                if known := parameters(factory, first=first, skip=by_name):
                    document.replace((*place, name), {next(iter(known)): given})


def check_argument_names(document: Document, path: Path, known: Mapping[str, Parameter]) -> None:
    """Check every named value among the arguments at `path`."""
    _check_each(document, path, {name: parameter.kind for name, parameter in known.items()})


def _check_each(document: Document, path: Path, annotations: Mapping[str, Any]) -> None:
    for key, annotation in annotations.items():
        written = document.get((*path, key))
        for place, kind in named_places(annotation, (*path, key), written):
            check_named(document, place, kind)


def named_places(annotation: Any, path: Path, written: Any) -> Iterator[tuple[Path, str]]:
    """The paths of all names in a written value, each with its kind, by the `NameOf` marks in its type."""
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


def in_full(annotation: Any, value: Any, found: list[registry.Component]) -> Any:
    """A written value with plugins' components named in full, by the `NameOf` marks in its type: so another plugin that
    is installed later does not make a name mean something else. Each component is added to `found`."""
    marks = [mark.kind for mark in getattr(annotation, "__metadata__", ()) if isinstance(mark, NameOf)]
    if value is None or "modules" in marks:
        return value
    if marks:
        return _named_in_full(marks[0], value, found)
    inner, origin = typing.get_args(annotation), typing.get_origin(annotation)
    if origin is list and isinstance(value, list):
        return [in_full(inner[0], item, found) for item in value]
    if origin is dict and isinstance(value, dict):
        return {key: in_full(inner[1], item, found) for key, item in value.items()}
    if origin in (Annotated, Union, types.UnionType):
        for member in inner if origin is not Annotated else inner[:1]:
            value = in_full(member, value, found)
    return value


def _named_in_full(kind: str, value: Any, found: list[registry.Component]) -> Any:
    name = next(iter(value)) if isinstance(value, dict) else value
    component = component_of(kind, name)
    if component is None and name in OF_TRANSFORMS and isinstance(value, dict):
        given = value[name]
        return {name: given | {"transforms": in_full(list[TransformName], given["transforms"], found)}}
    if component is None:
        return value
    found.append(component)
    own = component.distribution == registry.CORE  # whose bare names are zoo's for good
    written = component.short if own else component.name
    return {written: value[name]} if isinstance(value, dict) else written


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
    """`Sequential` contains modules: a list of them, or a mapping that names them."""
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


def filled(kind: str, name: str, known: Iterable[str]) -> Iterable[str]:
    """The parameters that need not be given, since the model, the data or the length of the training says them."""
    if kind == "modules" or (kind == "metrics" and component_of(kind, name) is None):
        return known
    return FILLED[name] if name in FILLED else FILLED_FOR_PLUGINS.get(kind, ())


# arguments that an option of the train step takes the place of
_BESIDE = {"optimizers": {"lr": "lr"}, "schedulers": dict.fromkeys(TIMM_WARMUP, "warmup")}


def _check_arguments(document: Document, path: Path, kind: str, name: str, factory: Factory, given: Any) -> None:
    if kind != "modules" and not isinstance(given, dict):
        return None  # the form of the value is the caller's to judge
    first, by_name = supplied(kind, factory)
    known = parameters(factory, first=first, skip=by_name, auto=kind == "modules")
    arguments = given
    if kind == "modules" and given is not None and not isinstance(given, dict):  # `{Dropout: 0.5}`: the first parameter
        if not known:
            return document.add(path, f"{name} takes no arguments, got {shown(given)}")
        arguments = {next(iter(known)): given}
    for key, option in _BESIDE.get(kind, {}).items():  # given twice, they would contradict each other
        if key in arguments and key in by_name:
            message, hint = f"{label(path)}: {option} is an option of the step", f"write {option} beside it"
            document.add((*path, key), message, hint, at_key=True)
            known[key] = Parameter(Any, required=False)
    known |= {key: replace(known[key], required=False) for key in filled(kind, name, known) if key in known}
    lacking = [key for key, parameter in known.items() if parameter.required]
    if lacking and not arguments and path[-1] != name:  # a bare name where arguments are due
        hint = f"write {{{name}: {{{', '.join(f'{key}: …' for key in lacking)}}}}}"
        return document.add(path, f"{label(path)}: {name} needs {', '.join(lacking)}", hint)
    model = model_of(known, extra="allow" if is_open(factory) else "forbid")
    if validate(document, path, model, arguments or {}) and given is arguments:
        check_argument_names(document, path, known)
    return None
