"""The rows of a table of images and labels, as they stand in its file. Importing this needs no torch."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from zoo.errors import Location, Problem

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
CELLS = "\x1f"  # between the cells of a row's label, where it has several columns


class Row(NamedTuple):
    """One image of a table, and the line where it stands there."""

    image: str
    label: str
    split: str
    line: int


class Rows(Sequence[Row]):
    """Rows, a column each: a million take a third of the memory that as many tuples do."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self.images: list[str] = []
        self.labels: list[str] = []
        self.splits: list[str] = []
        self.lines = array("Q")
        for row in rows:
            self.append(row)

    def append(self, row: Row) -> None:
        self.images.append(row.image)
        self.labels.append(row.label)
        self.splits.append(row.split)
        self.lines.append(row.line)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, at: int) -> Row:  # type: ignore[override]
        return Row(self.images[at], self.labels[at], self.splits[at], self.lines[at])

    def __iter__(self) -> Iterator[Row]:
        return map(Row, self.images, self.labels, self.splits, self.lines)


class Table(NamedTuple):
    """The rows of one file; `notes` are remarks for the person."""

    file: str
    rows: Rows
    delimiter: str
    notes: list[str]

    def problem(self, row: Row, message: str, suggestion: str | None = None) -> Problem:
        return Problem(message, Location(self.file, row.line, 1), suggestion)


def number(text: str, delimiter: str = ",") -> float | None:
    """A finite number; where commas do not separate columns, one may be the decimal point."""
    if "_" in text:  # which Python's numbers may have, and nobody's measurements
        return None
    try:
        value = float(text.replace(",", ".", 1) if delimiter != "," else text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
