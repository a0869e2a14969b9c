"""The parameters of a component, with their annotations as objects wherever that is possible."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any


def parameters(make: Callable[..., Any], known: Mapping[str, Any] | None = None) -> dict[str, inspect.Parameter]:
    """The parameters of a function or class by name.

    Each annotation is resolved on its own, with `known` for names that a plugin imports for type checkers only; one
    that cannot be resolved stays the string it is.
    """
    target: Any = make
    while isinstance(target, functools.partial):
        target = target.func
    if inspect.isclass(target):
        target = target.__init__
    names = {**(known or {}), **getattr(inspect.unwrap(target), "__globals__", {})}
    signature = inspect.signature(make)
    return {
        name: parameter.replace(annotation=_resolved(parameter.annotation, names))
        for name, parameter in signature.parameters.items()
    }


def members(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union; anything else is its own only one."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _resolved(annotation: Any, names: Mapping[str, Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    holder = types.SimpleNamespace(__annotations__={"value": annotation})
    try:
        return typing.get_type_hints(holder, globalns=dict(names))["value"]
    except Exception:  # an annotation may be any expression, and fail in any way
        return annotation
