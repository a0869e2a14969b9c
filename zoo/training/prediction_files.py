"""Rows of `zoo predict` as they are written: lines of a table, one JSON document, a CSV file; each row as it comes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from zoo.formats.files import atomic_file, check_free, write_all

Row = Mapping[str, Any]


class Writer(Protocol):
    """Takes one row after the other."""

    def __call__(self, row: Row) -> None: ...


def table(rows: Iterable[Row]) -> Iterator[str]:
    """`photo.jpg  cat 97.12%  dog 1.88%`: a line a row, columns as wide as what came so far asks."""
    widths: list[int] = []
    for row in rows:
        cells = [str(row["image"]), *_cells(row)]
        widths += [0] * (len(cells) - len(widths))
        for place, cell in enumerate(cells):
            widths[place] = max(widths[place], len(cell))
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=False))
        yield "  ".join(padded).rstrip()


def _cells(row: Row) -> Iterator[str]:
    if "error" in row:
        yield f"error: {row['error']}"
        return
    if "labels" in row:
        likely = {entry["label"]: entry["probability"] for entry in row["predictions"]}
        yield ", ".join(row["labels"]) or "(no label)"
        yield from (f"{name} {value:.2%}" for name, value in likely.items() if name not in row["labels"])
        return
    for entry in row["predictions"]:
        value = f"{entry['probability']:.2%}" if "probability" in entry else f"{entry['value']:.6g}"
        yield f"{entry['label']} {value}"


def document(rows: Iterable[Row]) -> Iterator[str]:
    """One JSON document, `{"images": [row, …], "read": n, "unreadable": n}`, a piece a row."""
    read = unreadable = 0
    yield '{"images": ['
    for row in rows:
        yield ("\n" if read + unreadable == 0 else ",\n") + json.dumps(row)
        unreadable += "error" in row
        read += "error" not in row
    yield f'\n], "read": {read}, "unreadable": {unreadable}}}\n'


@contextmanager
def csv_writer(
    path: Path, task: str, top: int, outputs: tuple[str, ...], *, overwrite: bool = False
) -> Iterator[Writer]:
    """What appends rows to a CSV file, which is at `path` once the block has ended, complete or not at all.

    Columns: `image`; of classes `label`, `probability` and, of the further ones, `label 2`, `probability 2`, …; before
    these, of a multilabel network, `labels`, as a JSON list; of a regression each value under its name; `error`, for an
    image that cannot be read. Raises InputError where the file is there already.
    """
    check_free(path, overwrite=overwrite)
    with atomic_file(path) as descriptor:
        at = 0

        def put(values: Iterable[Any]) -> None:
            nonlocal at
            text = io.StringIO(newline="")
            csv.writer(text, lineterminator="\n").writerow(values)
            data = text.getvalue().encode("utf-8", "backslashreplace")
            write_all(descriptor, data, at)
            at += len(data)

        columns = _columns(task, top, outputs)
        put(columns)
        yield lambda row: put(_values(row, columns))


def _columns(task: str, top: int, outputs: tuple[str, ...]) -> list[str]:
    if task == "regression":
        return ["image", *(f"output: {name}" for name in outputs), "error"]
    numbers = ["", *(f" {place}" for place in range(2, min(top, len(outputs) or top) + 1))]
    likely = [f"{word}{number}" for number in numbers for word in ("label", "probability")]
    return ["image", *(["labels"] if task == "multilabel" else []), *likely, "error"]


def _values(row: Row, columns: list[str]) -> list[Any]:
    found: dict[str, Any] = {"image": row["image"], "error": row.get("error", "")}
    if "labels" in row:
        found["labels"] = json.dumps(row["labels"], ensure_ascii=False)
    for place, entry in enumerate(row.get("predictions", ()), 1):
        if "value" in entry:
            found[f"output: {entry['label']}"] = entry["value"]
            continue
        number = "" if place == 1 else f" {place}"
        found[f"label{number}"], found[f"probability{number}"] = entry["label"], entry["probability"]
    return [found.get(column, "") for column in columns]
