"""Reads a CSV of images and labels, keeping the line of every row for messages."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import InputError, Location, Problem, did_you_mean


@dataclass(frozen=True)
class Row:
    image: Path
    label: str
    location: Location


def read_table(path: Path, image_column: str, label_column: str) -> list[Row]:
    """The rows of a CSV file with a header; relative image paths count from the file's folder.

    Raises InputError for a file or column that is not there, and for all rows without an image file or label at once.
    """
    path = path.expanduser()
    if not path.is_file():
        raise InputError(f"table {path} does not exist", suggestion=_neighbour(path))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"table {path} is not UTF-8 text: {error}", suggestion="save it as CSV (UTF-8)") from error
    reader = csv.DictReader(text.splitlines(keepends=True), skipinitialspace=True)
    header = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = header
    _require(path, header, image_column, label_column)
    rows: list[Row] = []
    problems: list[Problem] = []
    for values in reader:
        here = Location(str(path), reader.line_num, 1)
        image, label = (values[image_column] or "").strip(), (values[label_column] or "").strip()
        row = Row(path.parent / image, label, here)
        problems += _faults(row, image)
        rows.append(row)
    if not rows:
        problems.append(Problem(f"table {path} has a header but no rows"))
    if problems:
        raise InputError(problems)
    return rows


def _faults(row: Row, image: str) -> list[Problem]:
    faults = []
    if not image:
        faults.append(Problem("no image in this row", row.location))
    elif not row.image.is_file():
        hint = "relative paths count from the table's folder"
        faults.append(Problem(f"image {image} does not exist", row.location, hint))
    elif not row.image.stat().st_size:
        faults.append(Problem(f"image {image} is empty", row.location, "remove the row"))
    if not row.label:
        faults.append(Problem("no label in this row", row.location))
    return faults


def _require(path: Path, header: list[str], *columns: str) -> None:
    missing = [column for column in columns if column not in header]
    if missing:
        there = ", ".join(header) or "nothing"
        first = Location(str(path), 1, 1)
        hint = "the first line names the columns; image_column and label_column name others"
        raise InputError(
            Problem(f"no column {column!r}; there is: {there}", first, did_you_mean(column, header) or hint)
            for column in missing
        )


def _neighbour(path: Path) -> str | None:
    return did_you_mean(path.name, [entry.name for entry in path.parent.iterdir()]) if path.parent.is_dir() else None
