"""Why two modules, or what stands between two modules, give different values: settings and operations that differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from zoo.model.paths import get_module

SETTINGS = (
    "eps", "padding", "stride", "dilation", "groups", "kernel_size", "padding_mode", "ceil_mode", "count_include_pad",
    "approximate", "negative_slope", "num_heads", "scale", "output_size", "normalized_shape",
)  # fmt: skip
"""Attributes of modules that change what they compute."""

_PLAIN = (int, float, str, bool, tuple)


def settings(source: nn.Module, target: nn.Module) -> list[str]:
    """`eps 1e-05 against 0.001`, for every setting that both have and that differs; the source's comes first."""
    found = []
    for name in SETTINGS:
        one, other = getattr(source, name, None), getattr(target, name, None)
        if isinstance(one, _PLAIN) and isinstance(other, _PLAIN) and _plain(one) != _plain(other):
            found.append(f"{name} {_plain(one)} against {_plain(other)}")
    return found


def _plain(value: Any) -> Any:
    """One number for a tuple that repeats it, so that 1 and (1, 1) are the same."""
    return value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value


def all_settings(source: nn.Module, target: nn.Module, pairs: Mapping[str, str]) -> tuple[str, ...]:
    """The settings that differ in modules that correspond, each with the number of modules and the first of them."""
    where: dict[str, list[str]] = {}
    for path, other in pairs.items():
        for words in settings(get_module(source, other), get_module(target, path)):
            where.setdefault(words, []).append(path)
    return tuple(f"{words} in {len(paths)} modules, first in {paths[0]}" for words, paths in where.items())


def inside(source: nn.Module, target: nn.Module, one: Sequence[str], other: Sequence[str]) -> str | None:
    """What differs inside two modules that were given the same values; None where nothing is seen to.

    `one` and `other` are the operations they ran.
    """
    names = type(source).__name__, type(target).__name__
    kinds = "" if names[0] == names[1] else f" ({names[0]} against {names[1]})"
    if found := settings(source, target):
        return f"{', '.join(found)}{kinds}"
    if found := only_one(source, target):
        return f"{', '.join(found)}{kinds}"
    if found := unequal(source, target):
        return f"its tensors differ: {', '.join(found)}; what was moved there is not what the source has"
    return operations(one, other)


def only_one(source: nn.Module, target: nn.Module) -> list[str]:
    """Tensors that one of the modules has and the other lacks."""
    mine, its = (
        {name for name, _ in (*m.named_parameters(recurse=False), *m.named_buffers(recurse=False))}
        for m in (source, target)
    )
    return [f"{name} against none" for name in sorted(mine - its)] + [
        f"no {name} against one" for name in sorted(its - mine)
    ]


def unequal(source: nn.Module, target: nn.Module) -> list[str]:
    """Names of tensors of both modules that hold different values, whatever their shapes."""
    mine, its = (
        {**dict(m.named_parameters(recurse=False)), **dict(m.named_buffers(recurse=False))} for m in (source, target)
    )
    return [
        name
        for name in mine.keys() & its.keys()
        if mine[name].numel() != its[name].numel() or not torch.equal(mine[name].flatten(), its[name].flatten())
    ]


def operations(one: Sequence[str], other: Sequence[str]) -> str | None:
    """The operations that one side ran and the other did not; None where both ran the same."""
    mine, its = Counter(one), Counter(other)
    only, added = (mine - its), (its - mine)
    if not only and not added:
        return None
    return f"{_listed(only) or 'nothing'} against {_listed(added) or 'nothing'}"


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count}x {words}" if count > 1 else words for words, count in counts.items())
