"""Components that the training engine calls: made of what a recipe names, and named where their code fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from zoo import registry
from zoo.errors import InputError, WorkError, ZooError, is_out_of_memory
from zoo.file_name import name_mistake
from zoo.isolation import PluginError, guarded
from zoo.recipe.catalogue import component_of, find
from zoo.recipe.options import Named
from zoo.training.optimizers import named

Made = TypeVar("Made")


def source_of(component: registry.Component) -> str:
    """`acme/focal (zoo-acme 1.0)`."""
    return f"{component.name} ({component.distribution} {component.version})"


@contextmanager
def blamed(component: registry.Component | None) -> Iterator[None]:
    """What the code of a plugin's component raises, which may be anything, becomes a WorkError that names it."""
    try:
        yield
    except ZooError:
        raise
    except Exception as error:
        if component is None or is_out_of_memory(error):
            raise
        raise WorkError(f"{source_of(component)} failed: {type(error).__name__}: {error}") from error


def make(kind: str, value: Named, base: type[Made]) -> tuple[registry.Component, Made]:
    """The object that a recipe's `value` stands for, with its component.

    Raises InputError for a name that nothing has, arguments it does not take, an object that is no `base`, and one that
    would write elsewhere than into the run's folder.
    """
    name, arguments = named(value)
    factory, component = find(kind, name), component_of(kind, name)
    assert factory is not None
    assert component is not None
    try:
        made = guarded(lambda: factory(**arguments))
    except PluginError as failure:
        if isinstance(failure.__cause__, ZooError):
            raise failure.__cause__ from None
        raise InputError(f"{source_of(component)} cannot be made: {failure}") from failure
    if not isinstance(made, base):
        word = base.__name__
        message = f"{source_of(component)} is no {word.lower()}: it does not derive from zoo.api.{word}"
        raise InputError(message, suggestion=f"report it to the authors of {component.distribution}")
    for file in getattr(made, "files", ()):
        if mistake := name_mistake(str(file)):
            raise InputError(f"{source_of(component)} would write {file!r} into the run's folder: {mistake}")
    return component, made


def files_of(kind: str, values: Sequence[Named]) -> frozenset[str]:
    """What callbacks or trackers say they write into the run's folder; nothing of those that cannot be used here."""
    found: set[str] = set()
    for value in values:
        with suppress(InputError):
            found.update(getattr(find(kind, named(value)[0]), "files", ()))
    return frozenset(found)


def state_of(thing: Any) -> Any:
    """What an object says has to be known again in a resumed run; None where it says nothing."""
    return thing.state_dict() or None if callable(getattr(thing, "state_dict", None)) else None


def restore_state(thing: Any, state: Any) -> None:
    """Give an object back what `state_of` took."""
    if state is not None and callable(getattr(thing, "load_state_dict", None)):
        thing.load_state_dict(state)
