"""The rows of a table of images and labels, as they stand in its file. Importing this needs no torch."""

from __future__ import annotations

import math
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


class Table(NamedTuple):
    """The rows of one file; `notes` are remarks for the person."""

    file: str
    rows: list[Row]
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
