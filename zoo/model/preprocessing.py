"""How images are prepared for a network: for the size that it was built with, and where two ways differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from zoo.contracts import Preprocessing

_SIZES = ("img_size", "image_size")  # what builders call the side of their input


def for_arguments(preprocessing: Preprocessing, arguments: Mapping[str, Any]) -> Preprocessing:
    """`preprocessing` at the input size that an architecture's arguments ask for, where they do."""
    for size in (arguments.get(name) for name in _SIZES):
        if isinstance(size, int) and not isinstance(size, bool):
            return replace(preprocessing, size=(size, size))
        if isinstance(size, list | tuple) and len(size) == 2:
            return replace(preprocessing, size=(size[0], size[1]))
    return preprocessing


def differences(one: Preprocessing, other: Preprocessing) -> list[str]:
    """`size 96 x 96, not 224 x 224`: the values of `one` that differ from those of `other`."""
    mine, its = one.as_dict(), other.as_dict()
    return [f"{key} {_shown(key, mine[key])}, not {_shown(key, its[key])}" for key in mine if mine[key] != its[key]]


def _shown(key: str, value: Any) -> str:
    if isinstance(value, list):
        return (" x " if key == "size" else " ").join(f"{each:g}" for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
