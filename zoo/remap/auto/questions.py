"""What to type where `auto` abstains: the rename that says which of two is which, in front of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from zoo.formats.names import LEAVES


def say_which(groups: Iterable[tuple[Sequence[str], Sequence[str]]]) -> str | None:
    """The renames that would settle the first group of paths (the source's, the target's) that a word settles.

    Such a group differs in one component of its paths on each side (`norm_before` and `norm_after`, `norm1` and
    `norm2`); the same word on both sides is what `auto` goes by first.
    """
    for sources, targets in groups:
        mine, its = _words(sources), _words(targets)
        if mine and its and len(mine) == len(its) and not {*mine} & {*its}:
            ways = [rf"--remap '\b{re.escape(mine[0])}\b={word}' if it is {word}" for word in its]
            return f"say in front of auto which of them {mine[0]} is: {', '.join(ways)}"
    return None


def _words(paths: Sequence[str]) -> list[str]:
    """The component in which the paths differ, where it is one, a module's, and no number."""
    rows = [path.split(".") for path in paths]
    if len(rows) < 2 or len({len(row) for row in rows}) > 1:
        return []
    differing = [column for column in zip(*rows, strict=True) if len({*column}) > 1]
    words = list(differing[0]) if len(differing) == 1 else []
    named = not any(word.isdecimal() or word in LEAVES for word in words)
    return words if named and len({*words}) == len(words) else []
