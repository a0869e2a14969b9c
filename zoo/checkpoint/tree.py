"""Modules as the dots in tensor names tell of them: every tensor counts for each module above it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

Sum = TypeVar("Sum")

MAX_DEPTH = 32


def ancestors(name: str) -> list[str]:
    """The paths of the modules above a tensor, outermost (the root, `""`) first: `a.b.weight` -> `""`, `a`, `a.b`."""
    parts = name.split(".", MAX_DEPTH)
    return [".".join(parts[:depth]) for depth in range(len(parts))]


def by_module(names: Iterable[str], start: Callable[[], Sum], add: Callable[[Sum, str], None]) -> dict[str, Sum]:
    """A sum for every module, in the order of first appearance: `add(sum, name)` takes a tensor into each above it."""
    sums: dict[str, Sum] = {}
    for name in names:
        for path in ancestors(name):
            if path not in sums:
                sums[path] = start()
            add(sums[path], name)
    return sums


def in_order(paths: Iterable[str]) -> list[str]:
    """Module paths, each before what lies in it: numbers by size (files often have 10 before 2), names as they came."""
    seen = {path: position for position, path in enumerate(paths)}

    def key(path: str) -> list[tuple[int, int]]:
        steps = [*ancestors(path)[1:], path] if path else []
        parts = [step.rpartition(".")[2] for step in steps]
        return [
            (0, int(part)) if part.isdecimal() and len(part) < 10 else (1, seen[step])
            for step, part in zip(steps, parts, strict=True)
        ]

    return sorted(seen, key=key)
