"""Whether the order of a key set tells the order in which a network was put together, and what comes before what.

A state dict lists a module's tensors together and its children in the order they were registered. Sorting by name (as
safetensors files are) or shuffling destroys that; then only the numbers in a sequence of modules still tell it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zoo.checkpoint.header import Entry
from zoo.checkpoint.match.tree import Item

_DIGITS = re.compile(r"(\d+)")


def is_registration(entries: Mapping[str, Entry]) -> bool:
    """Whether the order can be the one of registration: every prefix holds together, and it is not sorted by name.

    Names without prefixes show no order.
    """
    names = list(entries)
    if 2 * sum("." in name for name in names) < len(names):
        return False
    by_dtype: dict[str, list[str]] = {}
    for name, entry in entries.items():
        by_dtype.setdefault(entry.dtype, []).append(name)
    alphabetical = all(group == sorted(group) for group in by_dtype.values())
    natural = all(group == sorted(group, key=_natural) for group in by_dtype.values())
    return not alphabetical and not natural and _holds_together(names)


def _natural(name: str) -> list[tuple[int, int, str]]:
    return [(0, int(piece), "") if piece.isdigit() else (1, 0, piece) for piece in _DIGITS.split(name) if piece]


def _holds_together(names: Sequence[str]) -> bool:
    """A prefix that was left does not come again."""
    closed: set[str] = set()
    opened: list[str] = []
    for name in names:
        components = name.split(".")[:-1]
        prefixes = [".".join(components[:depth]) for depth in range(1, len(components) + 1)]
        closed |= set(opened) - set(prefixes)
        if closed & set(prefixes):
            return False
        opened = prefixes
    return True


def blank(path: str) -> str:
    """The path with every number replaced by `#`."""
    return _DIGITS.sub("#", path)


def numbers(path: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in _DIGITS.findall(path))


@dataclass(frozen=True)
class Order:
    """What comes before what on one side. `reliable`: the order of the entries is the one of registration."""

    reliable: bool

    def before(self, first: Item, second: Item) -> bool | None:
        """Whether `first` was registered before `second`; None where that is not known."""
        if self.reliable:
            return first.place < second.place
        for one, other in zip(first.path.split("."), second.path.split("."), strict=False):
            if one != other:
                return int(one) < int(other) if one.isdigit() and other.isdigit() else None
        return None


@dataclass(frozen=True)
class Execution:
    """The order in which a network uses its tensors: position of the first use by tensor name."""

    positions: Mapping[str, int]

    def before(self, first: Item, second: Item) -> bool | None:
        one, other = self.position(first), self.position(second)
        return None if one is None or other is None else one < other

    def position(self, item: Item) -> int | None:
        used = [self.positions[name] for name in item.names if name in self.positions]
        return min(used, default=None)
