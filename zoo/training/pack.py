"""Turns nested state (of optimizers, schedulers, generators) into JSON and named tensors, and back, without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from zoo.errors import WorkError

# A mapping with one of these keys alone stands for what JSON has no form for.
TENSOR, TUPLE, ITEMS = "$tensor", "$tuple", "$items"


def pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as plain JSON; tensors in it go into `tensors` under names that begin with `name`.

    Tuples and mappings with keys other than strings come back as they were. Raises WorkError for anything else than
    numbers, strings, None, tensors and lists, tuples and mappings of them.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        tensors[name] = value.detach()
        return {TENSOR: name}
    if isinstance(value, list | tuple):
        items = [pack(item, f"{name}.{index}", tensors) for index, item in enumerate(value)]
        return items if isinstance(value, list) else {TUPLE: items}
    if isinstance(value, Mapping):
        packed = {key: pack(item, f"{name}.{key}", tensors) for key, item in value.items()}
        plain = all(isinstance(key, str) and not key.startswith("$") for key in packed)
        return packed if plain else {ITEMS: [[key, item] for key, item in packed.items()]}
    raise WorkError(f"training state cannot be kept: {name} is a {type(value).__name__}, which JSON has no form for")


def unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What `pack` was given; tensors are copies. Raises WorkError where a tensor is missing."""
    if isinstance(value, list):
        return [unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if TENSOR in value:
        if value[TENSOR] not in tensors:
            raise WorkError(f"training state is incomplete: it lacks the tensor {value[TENSOR]}")
        return tensors[value[TENSOR]].clone()
    if TUPLE in value:
        return tuple(unpack(item, tensors) for item in value[TUPLE])
    if ITEMS in value:
        return {key: unpack(item, tensors) for key, item in value[ITEMS]}
    return {key: unpack(item, tensors) for key, item in value.items()}
