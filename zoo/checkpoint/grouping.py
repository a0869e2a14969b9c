"""Brings hundreds of names down to the few patterns behind them, for people to read."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NUMBER = re.compile(r"(?<![A-Za-z])\d+(?![A-Za-z])|(?<=[._/-])\d+")
LEAVES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked", "gamma", "beta")


def pattern(name: str) -> str:
    """`name` with its indices taken out: `layer.3.0.conv` becomes `layer.*.*.conv`."""
    return _NUMBER.sub("*", name)


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
    return {with_leaves(key, leaves[key]): members for key, members in stems.items()}


def with_leaves(stem: str, leaves: Iterable[str]) -> str:
    """The stem with one leaf, with two in braces, or with a star for more."""
    told = [leaf for leaf in leaves if leaf]
    if not told:
        return stem
    return f"{stem}." + ("*" if len(told) > 2 else told[0] if len(told) == 1 else f"{{{','.join(told)}}}")
