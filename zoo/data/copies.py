"""One picture in two parts of the data, or under two labels: found by its bytes, whatever the files are called."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Sequence

from zoo.data.fingerprint import Row, fingerprint
from zoo.data.open_data import OpenData
from zoo.errors import listed

MOST = 20_000  # samples that a check compares; a run, which reads its data anyway, compares them all
SHOWN = 3
COMPRESSED = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".avif", ".jp2")
"""Types of which a part is different where the picture is: a large set's files are read in part alone."""


def copies(rows: Iterable[Row], read: str) -> list[str]:
    """A warning for every two parts with the same pictures in both, and one for pictures of several labels.

    `rows` and `read` are those of a fingerprint.
    """
    groups: dict[tuple[int, str], list[Row]] = collections.defaultdict(list)
    for row in rows:
        if row.digest and (read == "everything" or row.name.lower().endswith(COMPRESSED)):
            groups[row.size, row.digest].append(row)
    several = [group for group in groups.values() if len(group) > 1]
    parts = list(dict.fromkeys(row.part for group in several for row in group))
    said = [text for one, other in itertools.combinations(parts, 2) if (text := _shared(several, one, other))]
    torn = [group for group in several if len({row.label for row in group}) > 1]
    if torn:
        named = listed([" and ".join(f"{row.name} ({row.label})" for row in group[:2]) for group in torn], SHOWN)
        said.append(f"warning: {_counted(len(torn))} several labels, in copies: {named}")
    return said


def copies_in(data: OpenData | None) -> list[str]:
    """The same for opened data that is not too large to be read at once."""
    if data is None or sum(map(len, data.parts.values())) > MOST:
        return []
    found = fingerprint(data)
    return copies(found.rows, found.read)


def _shared(groups: Sequence[Sequence[Row]], one: str, other: str) -> str | None:
    pairs = []
    for group in groups:
        first = next((row.name for row in group if row.part == one), None)
        pairs += [f"{row.name} is {first}" for row in group if row.part == other and first is not None]
    if not pairs:
        return None
    which = f"samples of the {other} part are" if len(pairs) > 1 else f"sample of the {other} part is"
    return f"warning: {len(pairs)} {which} in the {one} part, too: {listed(pairs, SHOWN)}"


def _counted(count: int) -> str:
    return f"{count} samples have" if count > 1 else "1 sample has"
