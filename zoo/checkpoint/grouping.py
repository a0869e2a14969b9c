"""Brings hundreds of names down to the few patterns behind them, for people to read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

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
    told = {key: shared([stem_and_leaf(name)[0] for name in members]) for key, members in stems.items()}
    return {with_leaves(told[key], leaves[key]): members for key, members in stems.items()}


def with_leaves(stem: str, leaves: Iterable[str]) -> str:
    """The stem with one leaf, with two in braces, or with a star for more."""
    told = [leaf for leaf in leaves if leaf]
    if not told:
        return stem
    return f"{stem}." + ("*" if len(told) > 2 else told[0] if len(told) == 1 else f"{{{','.join(told)}}}")
