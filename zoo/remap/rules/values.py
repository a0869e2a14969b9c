"""Reads the values of a rule; every misfit is a `MisfitError` that says what was expected."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from zoo.errors import any_of, did_you_mean
from zoo.formats.dtypes import TORCH_DTYPES, written_dtype
from zoo.remap.rules.patterns import Pattern, PatternError, Template

_COMMON = ("float32", "float16", "bfloat16", "int64")


class MisfitError(ValueError):
    """A value is not what the rule takes; `key` is the part of the rule at fault, `suggestion` what to type."""

    def __init__(self, message: str, key: str | int | None = None, suggestion: str | None = None) -> None:
        super().__init__(message)
        self.key = key
        self.suggestion = suggestion


def options(value: Any, scalar: str, required: Collection[str], optional: Collection[str] = ()) -> dict[str, Any]:
    """The rule's parts by name: of a mapping, or of a bare value, which is the part called `scalar`."""
    parts = dict(value) if isinstance(value, Mapping) else {scalar: value}
    known = [*required, *optional]
    for key in parts:
        if key not in known:
            raise MisfitError(
                f"there is no {key!r} here", key, did_you_mean(str(key), known) or f"it takes {any_of(known)}"
            )
    if absent := [key for key in required if key not in parts]:
        raise MisfitError(f"{absent[0]!r} is missing", suggestion=f"it takes {any_of(known)}")
    return parts


def text(value: Any, key: str | int) -> str:
    if not isinstance(value, str) or not value:
        raise MisfitError(f"expected a text, not {value!r}", key)
    return value


def texts(value: Any, key: str | int, least: int = 1) -> tuple[str, ...]:
    """One text or a list of them."""
    items = value if isinstance(value, list | tuple) else [value]
    if len(items) < least:
        raise MisfitError(f"expected a list of at least {least}, not {value!r}", key)
    return tuple(text(item, key) for item in items)


def pattern(value: Any, key: str | int) -> Pattern:
    try:
        return Pattern.parse(text(value, key))
    except PatternError as error:
        raise MisfitError(str(error), key) from error


def patterns(value: Any, key: str | int) -> tuple[Pattern, ...]:
    return tuple(pattern(item, key) for item in texts(value, key))


def template(value: Any, key: str | int) -> Template:
    try:
        return Template.parse(text(value, key))
    except PatternError as error:
        raise MisfitError(str(error), key) from error


def templates(value: Any, key: str | int, least: int = 2) -> tuple[Template, ...]:
    """A list of at least `least` templates."""
    return tuple(template(item, key) for item in texts(value, key, least))


def integer(value: Any, key: str | int, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise MisfitError(f"expected an integer of at least {least}, not {value!r}", key)
    return value


def integers(value: Any, key: str | int, least: int = 0) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise MisfitError(f"expected a list of integers, not {value!r}", key)
    return tuple(integer(item, key, least) for item in value)


def shape(value: Any, key: str | int) -> tuple[int, ...]:
    """Sizes of a reshape: at most one -1 (whatever is left), 0 for the size that is there already."""
    sizes = integers(value, key, -1) if value != [] else ()
    if sizes.count(-1) > 1:
        raise MisfitError(f"only one -1 can be worked out, not two: {value!r}", key)
    return sizes


def grid(value: Any, key: str | int) -> tuple[int, int]:
    """[height, width], or one integer for a square."""
    sizes = integers([value, value] if isinstance(value, int) else value, key, 1)
    if len(sizes) != 2:
        raise MisfitError(f"expected [height, width], not {value!r}", key)
    return sizes[0], sizes[1]


def dtype(value: Any, key: str | int) -> str:
    """A dtype by torch's name, in safetensors' spelling (which is taken too)."""
    name = written_dtype(str(value))
    if name is None:
        hint = did_you_mean(str(value).removeprefix("torch."), TORCH_DTYPES.values())
        raise MisfitError(f"{value!r} is no dtype", key, hint or f"write {any_of(_COMMON)}, or another of torch's")
    return name


def boolean(value: Any, key: str | int) -> bool:
    if not isinstance(value, bool):
        raise MisfitError(f"expected true or false, not {value!r}", key)
    return value


def choice(value: Any, key: str | int, choices: Sequence[str]) -> str:
    if value not in choices:
        raise MisfitError(f"expected {any_of(choices)}, not {value!r}", key, did_you_mean(str(value), choices))
    return str(value)
