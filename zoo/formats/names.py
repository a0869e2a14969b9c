"""Tensor names: the modules that their dots spell out, and the few patterns behind hundreds of names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
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
    """Paths, each before what is inside it: numbers by size (files often have 10 before 2), others as they came."""
    seen = {path: position for position, path in enumerate(paths)}

    def key(path: str) -> list[tuple[int, int]]:
        steps = [*ancestors(path)[1:], path] if path else []
        parts = [step.rpartition(".")[2] for step in steps]
        return [
            (0, int(part)) if part.isdecimal() and len(part) < 10 else (1, seen[step])
            for step, part in zip(steps, parts, strict=True)
        ]

    return sorted(seen, key=key)


_NUMBER = re.compile(r"(?<![A-Za-z])\d+(?![A-Za-z])|(?<=[._/-])\d+")
LEAVES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked", "gamma", "beta")


def pattern(name: str) -> str:
    """`name` with its indices taken out: `layer.3.0.conv` becomes `layer.*.*.conv`."""
    return _NUMBER.sub("*", name)


def shared(names: Sequence[str]) -> str:
    """What names of one pattern have in common: the indices that are the same in all of them stay."""
    numbers = [_NUMBER.findall(name) for name in names]
    slots = iter([row[0] if len(set(row)) == 1 else "*" for row in zip(*numbers, strict=True)])
    return _NUMBER.sub(lambda _: next(slots), names[0])


def stem_and_leaf(name: str) -> tuple[str, str]:
    """`blocks.0.norm` and `weight` of `blocks.0.norm.weight`; no leaf where the last part is not a common one."""
    stem, _, leaf = name.rpartition(".")
    return (stem, leaf) if leaf in LEAVES else (name, "")


def grouped(names: Iterable[str]) -> dict[str, list[str]]:
    """Names by what they look like without indices, their leaves joined: `norm.{weight,bias}`."""
    stems: dict[str, list[str]] = {}
    leaves: dict[str, dict[str, None]] = {}
    for name in names:
        stem, leaf = stem_and_leaf(name)
        key = pattern(stem)
        stems.setdefault(key, []).append(name)
        leaves.setdefault(key, {})[leaf] = None
    texts = {key: shared([stem_and_leaf(name)[0] for name in members]) for key, members in stems.items()}
    return {with_leaves(texts[key], leaves[key]): members for key, members in stems.items()}


def with_leaves(stem: str, leaves: Iterable[str]) -> str:
    """The stem with one leaf, with two in braces, or with a star for more."""
    known = [leaf for leaf in leaves if leaf]
    if not known:
        return stem
    return f"{stem}." + ("*" if len(known) > 2 else known[0] if len(known) == 1 else f"{{{','.join(known)}}}")
