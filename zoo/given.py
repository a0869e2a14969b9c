"""Objects that Python code hands to one call (a model, data, a transform): components while that call lasts.

A recipe and a checkpoint name such an object `python:MODULE.QUALNAME`, so that a person knows which class is meant.
Nothing is ever imported by such a name: whoever needs the object again hands it over again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from zoo.errors import InputError

PREFIX = "python:"
Objects = Mapping[str, Mapping[str, Callable[..., Any]]]  # by kind and name: what to call, as of any component
_GIVEN: ContextVar[Objects] = ContextVar("objects given to this call", default=MappingProxyType({}))
_AGAIN = {
    "architectures": "zoo.load(PATH, model={}()) or zoo.finetune(RECIPE, model={}())",
    "datasets": "data=…, the object itself, to zoo.evaluate or zoo.finetune",
    "transforms": "zoo.finetune(RECIPE, transform={})",
}


def name_of(thing: Any) -> str:
    """`python:my_nets.SmallNet` of an instance of a class, or of a function."""
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{PREFIX}{named.__module__}.{named.__qualname__}"


def is_given(name: object) -> bool:
    """Whether a name is that of an object, which no plugin supplies."""
    return isinstance(name, str) and name.startswith(PREFIX)


@contextlib.contextmanager
def given(objects: Objects) -> Iterator[None]:
    """Inside, each object is a component of its kind and name, in this thread only."""
    token = _GIVEN.set({**_GIVEN.get(), **objects})
    try:
        yield
    finally:
        _GIVEN.reset(token)


def any_given() -> bool:
    """Whether this call works with objects of the caller's."""
    return any(_GIVEN.get().values())


def given_names(kind: str) -> list[str]:
    """The names of the objects of a kind."""
    return list(_GIVEN.get().get(kind, ()))


def find_given(kind: str, name: str) -> Callable[..., Any]:
    """The object called `name`. Raises InputError where this call was not handed it, with what to type."""
    try:
        return _GIVEN.get()[kind][name]
    except KeyError:
        raise absent(kind, name) from None


def absent(kind: str, name: str) -> InputError:
    """That an object is needed which only Python code can hand over, and how."""
    what, called = name.removeprefix(PREFIX), name.rpartition(".")[2]
    noun = {"architectures": "the class", "datasets": "the data", "transforms": "the transform"}.get(kind, "the object")
    again = _AGAIN.get(kind, "the object itself").replace("{}", called)
    return InputError(f"{noun} {what} is Python code that no plugin supplies", suggestion=f"hand it over: {again}")
