"""Call a component: what it raises, and what it returns that its kind does not, is said of the plugin that has it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from zoo.errors import Location, WorkError, ZooError, is_out_of_memory
from zoo.isolation import PluginError, guarded
from zoo.registry import Component

Result = TypeVar("Result")

NOUNS = {"surgeries": "surgery", "freezing": "freezing policy", "weights": "weights"}


def call(
    component: Component,
    work: Callable[[], Result],
    *,
    failing: str = "failed",
    error: type[ZooError] = WorkError,
    location: Location | None = None,
) -> Result:
    """`work()`, which calls the component's code. In a command, what it prints goes to standard error.

    Raises `error` for whatever the code raises, with its file and line; zoo's own errors, and that memory ran out, pass
    through.
    """
    try:
        return guarded(work, package=component.package, passing=(ZooError,))
    except PluginError as failure:
        cause = failure.__cause__
        if isinstance(cause, Exception) and is_out_of_memory(cause):
            raise cause from None
        raise error(f"{component.name} {failing}: {failure}", location=location) from cause


def expect(
    component: Component,
    value: Any,
    kind: type[Result] | tuple[type[Any], ...],
    called: str | None = None,
    *,
    what: str = "returned",
) -> Result:
    """The value, where it is of this type. Raises WorkError otherwise, naming the distribution, the component and what
    the type is `called`: by itself as plugins import it."""
    if isinstance(value, kind):
        return value
    noun = NOUNS.get(component.kind, component.kind.removesuffix("s"))
    who = f"{component.distribution} {component.version}: {noun} {component.short!r}"
    called = called or f"zoo.api.{getattr(kind, '__name__', kind)}"
    raise WorkError(f"{who} {what} {type(value).__name__}, expected {called}", suggestion="see: zoo doctor")


def texts(component: Component, values: Any, called: str, *, what: str = "returned") -> list[str]:
    """The values as a list of texts. Raises WorkError for anything else."""
    found = call(component, lambda: list(expect(component, values, Iterable, called, what=what)))
    for value in [values] if isinstance(values, str) else found:
        if isinstance(values, str) or not isinstance(value, str):
            expect(component, value, _Never, called, what=what)
    return found


class _Never:
    """What nothing is."""
