"""A table's file as its rows: encoding, separators, header, and what is wrong with each row. Needs no torch."""

from __future__ import annotations

import csv
import io
import itertools
import os
import stat
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from zoo.data.datasets import part_called, similar
from zoo.data.missing_image import hint_of
from zoo.data.table_rows import CELLS, DELIMITERS, Row, Rows, Table
from zoo.errors import InputError, Location, Problem, any_of, first_problems, listed, nearest
from zoo.formats.files import kind_of

SHOWN = 20  # faulty rows that a message lists before it only counts
SAMPLE = 256  # bytes that show the encoding
LOOKED_AT = 100  # rows that show what a column says
UNCLOSED = "is a quotation mark not closed?"
TEXT = "save it as CSV (UTF-8)"
FORMATS = {
    b"PK\x03\x04": "an Excel workbook or another zip archive",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"\x1f\x8b": "a gzip archive",
    b"PAR1": "a Parquet file",
}


class _Text(NamedTuple):
    """A file's bytes, which are text in `encoding`; its rows begin behind the first `skipped` lines."""

    path: Path
    content: bytes
    encoding: str
    skipped: int = 0
    delimiter: str = ","

    def lines(self) -> io.TextIOWrapper:
        """Lines as CSV ends them, not where Unicode may; decoded as they are read, which spares a copy of it all."""
        return io.TextIOWrapper(io.BytesIO(self.content), self.encoding, newline="")

    def cells(self) -> Iterator[tuple[int, list[str]]]:
        """(first line, cells) of each row that is not empty. Raises InputError for what is no text or no CSV."""
        line = self.skipped + 1
        rows = csv.reader(
            itertools.islice(self.lines(), self.skipped, None), delimiter=self.delimiter, skipinitialspace=True
        )
        try:
            for cells in rows:
                if cells:
                    yield line, cells
                line = self.skipped + rows.line_num + 1
        except csv.Error as error:
            raise InputError(
                f"not a CSV table: {error}", location=Location(str(self.path), line, 1), suggestion=UNCLOSED
            ) from error


def read_table(
    path: Path, image_column: str, label_column: str | Sequence[str], split_column: str = "", *, labelled: bool = True
) -> Table:
    """The rows of a CSV file with a header; relative image paths count from the file's folder.

    A file need not have the column `split_column`; with `labelled` every row needs a label. A row that repeats an
    earlier one is left out, and so is one with nothing in it. Raises InputError for a file or another column that is
    not there, and for all rows at once that have no image file, no label, more cells than the header, or another label
    for an image of an earlier row.
    """
    path = path.expanduser()
    if not path.is_file():
        raise InputError(f"table {path} does not exist", suggestion=similar(path))
    labels = [label_column] if isinstance(label_column, str) else list(label_column)
    text = _text(path)
    try:
        text, header = _header(text, (image_column, *labels), split_column)
        table = Table(str(path), Rows(), text.delimiter, [])
        if text.delimiter != ",":
            table.notes.append(f"{path}: its columns are separated by {DELIMITERS[text.delimiter]}")
        table.notes.extend(_overlooked(text, header, split_column))
        columns = (image_column, split_column, *labels)
        places = [header.index(name) if name in header else None for name in columns]
        return _rows(text, table, places, len(header), labelled)
    except UnicodeDecodeError as error:
        raise _no_text(text) from error


def _rows(text: _Text, table: Table, places: list[int | None], width: int, labelled: bool) -> Table:
    """The table with all its rows; `places` are the columns of image, part and labels, of `width`."""
    problems: list[Problem] = []
    paths = _Paths(text.path.parent)
    long: list[Row] = []
    row = Row("", "", "", 1)
    for line, cells in text.cells():
        image, split, *own = [cells[at].strip() if at is not None and at < len(cells) else "" for at in places]
        label = CELLS.join(own)
        if not image and not any(cell.strip() for cell in cells):
            continue  # spreadsheets leave such rows behind the last one
        if not label.isascii():  # as the names of folders: a table made on another system may have the other form
            label = unicodedata.normalize("NFC", label)
        # of a million rows, most have one of a few labels: each is kept once
        row = Row(paths[image], sys.intern(label), sys.intern(split), line)
        if "\n" in label or "\n" in image:
            long.append(row)
        more = sum(map(bool, map(str.strip, cells[width:]))) if len(cells) > width else 0
        if faults := _faults(table, row, image, labelled, more, hinted=len(problems) < SHOWN):
            problems += faults
        else:
            table.rows.append(row)
    if not table.rows and not problems:
        raise InputError(f"table {text.path} has a header but no rows")
    table, repeated = _without_repeats(table)
    problems = sorted([*problems, *repeated], key=lambda problem: problem.location.line if problem.location else 0)
    if long and long[-1] is row and text.lines().read().count('"') % 2:
        problems.insert(0, table.problem(row, "this row goes on to the end of the file", UNCLOSED))
    if problems:
        raise InputError(first_problems(problems, SHOWN))
    if long:
        count = f"{len(long)} rows go on over several lines, the first from" if len(long) > 1 else "a row of"
        more_lines = "" if len(long) > 1 else " goes on over several lines"
        table.notes.append(f"warning: {text.path}: {count} line {long[0].line}{more_lines}: {UNCLOSED}")
    return table


def _without_repeats(table: Table) -> tuple[Table, list[Problem]]:
    """The table with each image once in each part, and every row that gives an image another label."""
    if len(set(table.rows.images)) == len(table.rows):
        return table, []
    first: dict[str, Row] = {}
    kept, problems = Rows(), []
    for row in table.rows:
        before = first.setdefault(row.image, row)
        if before.label != row.label:
            image = os.path.relpath(row.image, os.path.dirname(table.file) or ".")
            here, there = (label.replace(CELLS, ", ") for label in (row.label, before.label))
            message = f"image {image} is listed twice, as {here!r} here and as {there!r} in line {before.line}"
            several = "several labels of an image go into one cell: separator: '|'"
            problems.append(table.problem(row, message, f"remove one of the rows; {several}"))
        if before is row or before.split != row.split:
            kept.append(row)
    if repeated := len(table.rows) - len(kept):
        said = f"{repeated} rows repeat an image of an earlier row; each counts once"
        table.notes.append(f"warning: {table.file}: {said}")
    return table._replace(rows=kept), problems


class _Paths:
    """An image's path as the table gives it, from the table's folder on and without detours; few tables have as many
    folders as rows, so what a folder becomes is worked out once."""

    def __init__(self, parent: Path) -> None:
        self.parent = str(parent)
        self.folders: dict[str, str] = {}

    def __getitem__(self, image: str) -> str:
        folder, _, name = image.rpartition("/")
        if name in ("", ".", "..") or not folder or os.path.altsep:  # the last: backslashes part folders, too
            return os.path.normpath(os.path.join(self.parent, image))
        if folder not in self.folders:
            self.folders[folder] = os.path.join(os.path.normpath(os.path.join(self.parent, folder)), "")
        return self.folders[folder] + name


def _text(path: Path) -> _Text:
    content = path.read_bytes()
    if format := next((named for magic, named in FORMATS.items() if content.startswith(magic)), None):
        raise InputError(f"table {path} is {format}", suggestion=TEXT)
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    if b"\0" in content[2:SAMPLE] and (not wide or b"\0\0" in content[2:SAMPLE]):
        raise InputError(f"table {path} is no text, or in another encoding than UTF-8", suggestion=TEXT)
    return _Text(path, content, "utf-16" if wide else "utf-8-sig")


def _no_text(text: _Text) -> InputError:
    """For a file that its encoding cannot decode: the line, and the byte there."""
    try:
        text.content.decode(text.encoding)
    except UnicodeDecodeError as error:
        place = Location(str(text.path), error.object.count(b"\n", 0, error.start) + 1, 1)
        byte = error.object[error.start]
        return InputError(f"byte 0x{byte:02x} is no text in UTF-8", location=place, suggestion=TEXT)
    return InputError(f"table {text.path} is no text", suggestion=TEXT)


def _header(text: _Text, needed: Sequence[str], split_column: str) -> tuple[_Text, list[str]]:
    """The text from its first row on, its columns separated as in the header that has those needed; the header's names.

    Empty lines in front do not count, nor a first line `sep=;`, as spreadsheets write it. Raises InputError where no
    separator gives a header with the columns, or one that is used is there twice.
    """
    lines = ((number, line) for number, line in enumerate(text.lines(), 1) if line.strip())
    number, line = next(lines, (1, ""))
    signs = list(DELIMITERS)
    if line.lower().startswith("sep=") and line[4:5] in DELIMITERS:
        signs = [line[4]]
        number, line = next(lines, (number, ""))
    headers = {sign: _names(line, sign) for sign in signs}
    delimiter = next((sign for sign, names in headers.items() if set(needed) <= set(names)), None)
    place = Location(str(text.path), number, 1)
    if delimiter is None:
        header = max(headers.values(), key=len)
        hints = _Hints(text.path, needed, header)
        raise InputError(
            Problem(f"no column {name!r}; there is: {', '.join(header) or 'nothing'}", place, hints.of(name))
            for name in needed
            if name not in header
        )
    header = headers[delimiter]
    if twice := [name for name in (*needed, split_column) if name and header.count(name) > 1]:
        raise InputError(Problem(f"column {name!r} is there twice", place, "rename one of them") for name in twice)
    return text._replace(skipped=number, delimiter=delimiter), header


def _names(line: str, delimiter: str) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])]
    except csv.Error:
        return []


class _Hints(NamedTuple):
    """What to do where a table's first line, `header`, lacks a column."""

    path: Path
    needed: Sequence[str]
    header: list[str]

    def of(self, name: str) -> str:
        if any(cell and (self.path.parent / cell).is_file() for cell in self.header):
            return f"the first line names the columns: write {','.join(self.needed)} above the rows"
        if name in [cell.strip("'`") for cell in self.header]:
            return 'cells are put in quotation marks of the form "'
        if len(self.header) == 1 and all(each in self.header[0] for each in self.needed):
            return f"columns are separated by {any_of([*DELIMITERS.values()])}"
        if near := nearest(name, self.header):
            if name != self.needed[0] and len(self.needed) > 2:
                return f"did you mean {any_of(near)}?"
            return f"write {'image' if name == self.needed[0] else 'label'}_column: {near[0]}"
        return "the first line names the columns; image_column and label_column name others"


def _overlooked(text: _Text, header: list[str], split_column: str) -> Iterator[str]:
    """A warning for a column that says which part a row belongs to, where another is named for that."""
    if not split_column or split_column in header:
        return
    rows = [cells for _, cells in itertools.islice(text.cells(), LOOKED_AT)]
    for at, name in enumerate(header):
        said = {cells[at].strip() for cells in rows if at < len(cells) and cells[at].strip()}
        parts = {part_called(value) for value in said}
        if len(parts) > 1 and None not in parts:
            says = f"column {name!r} says {listed(sorted(said))}, and is not used"
            yield f"warning: {text.path}: {says}; it is with split_column: {name}"


def _faults(table: Table, row: Row, image: str, labelled: bool, more: int, *, hinted: bool) -> list[Problem]:
    """What is wrong with a row by itself; `more` is how many cells it has more than the header."""
    faults = []
    if more > 0:
        hint = f"write a cell that contains {DELIMITERS[table.delimiter]} in quotation marks"
        faults.append(table.problem(row, f"this row has {more} more cells than the header", hint))
    if not image:
        faults.append(table.problem(row, "no image in this row"))
    elif "\n" in image:
        faults.append(table.problem(row, "the image's name goes on over several lines", UNCLOSED))
    else:
        try:
            found = os.stat(row.image)
        except (OSError, ValueError):  # ValueError: a name that no file can have
            hint = hint_of(image, os.path.dirname(table.file)) if hinted else ""
            faults.append(table.problem(row, f"image {image} does not exist", hint or None))
        else:
            if not stat.S_ISREG(found.st_mode):
                faults.append(table.problem(row, f"image {image} is {kind_of(found.st_mode)}"))
            elif not found.st_size:
                faults.append(table.problem(row, f"image {image} is empty", "remove the row"))
    if labelled and not row.label:
        faults.append(table.problem(row, "no label in this row"))
    return faults
