"""The data set of a table that lists image files and labels. Importing this needs no torch."""

from __future__ import annotations

import csv
import io
import itertools
import os
import stat
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from zoo.contracts import Data
from zoo.data.datasets import PARTS, ListedSamples, alike, files_named, part_called, similar
from zoo.data.label_columns import ColumnLabels
from zoo.data.table_rows import CELLS, DELIMITERS, Row, Table, number
from zoo.errors import InputError, Location, Problem, did_you_mean, first_problems, listed
from zoo.formats.files import kind_of

MISSING = frozenset({"nan", "na", "n/a", "#n/a", "null", "nil", "?"})  # how tables spell that nothing was measured
SHOWN = 20  # faulty rows that a message lists before it only counts
SAMPLE = 256  # bytes that show the encoding
UNCLOSED = "is a quotation mark not closed?"
MANY_CLASSES = 20  # whole numbers up to so many are taken for classes without a word
Task = Literal["auto", "classification", "multilabel", "regression"]


@files_named()
def csv_table(
    path: str,
    *,
    image_column: str = "path",
    label_column: str | list[str] = "label",
    separator: str | None = None,
    task: Task = "auto",
    validation: str | None = None,
    test: str | None = None,
    split_column: str = "split",
) -> Data:
    """Images and labels listed in a CSV file with a header; relative image paths count from the file's folder.

    Columns are separated by commas, semicolons, tabs or bars, whichever the header has. `separator` splits a label into
    several: class names of a multi-label set, where an empty cell is an image without any, or the numbers of a
    regression target. A list of label columns has a class in each: probabilities that add up to 1 (soft targets, or
    one-hot rows), or 0 and 1 of several labels; or a measured value in each. Without `task`, labels with a separator
    are multi-label, labels that are numbers and not all integers are a regression, all else is classification.
    `validation` and `test` are files with the same columns. Without them a column `split_column` counts, where there is
    one, that says train, validation (val, dev) or test in each row; else seeded parts are held out. An image that is
    listed twice counts once. Raises InputError naming every row without an image, label or readable number, and every
    image with two labels.
    """
    _check_columns(image_column, label_column, separator)
    columns = (image_column, label_column, split_column)
    labelled = (separator is None or task == "regression") and isinstance(label_column, str)
    main = read_table(Path(path), *columns, labelled=labelled)
    tables = _by_split(main, split_column)
    for part, file in (("validation", validation), ("test", test)):
        if file is not None and part in tables:
            message = f"{path} has {part} rows in its column {split_column}, and {part} names another table"
            raise InputError(message, suggestion=f"remove {part}, or name no column: split_column: ''")
        if file is not None:
            tables[part] = read_table(Path(file), *columns, labelled=labelled)
    if isinstance(label_column, str):
        classes, kind, targets, notes = _by_names(tables, label_column, separator, task)
    else:
        classes, kind, targets, notes = _by_columns(tables, label_column, separator, task)
    if problems := [target for each in targets.values() for target in each if isinstance(target, Problem)]:
        raise InputError(first_problems(problems, SHOWN))
    remarks = {id(table.notes): table.notes for table in (main, *tables.values())}  # the parts of one file share theirs
    notes = [*itertools.chain(*remarks.values()), *notes]
    notes += _leaks(tables)
    notes += [f"warning: {path}: {text}" for text in alike(classes)]
    samples: dict[str, Any] = {
        part: ListedSamples([row.image for row in tables[part].rows], targets[part]) for part in tables
    }
    return Data(**samples, classes=classes, task=kind, notes=notes)


def _check_columns(image_column: str, label_column: str | list[str], separator: str | None) -> None:
    """Raises InputError for what no table could have."""
    labels = [label_column] if isinstance(label_column, str) else label_column
    if image_column in labels:
        raise InputError(f"image_column and label_column both name {image_column!r}", suggestion="name two columns")
    if twice := sorted({name for name in labels if labels.count(name) > 1}):
        raise InputError(f"label_column names {listed(twice)} twice", suggestion="name each column once")
    if separator == "":
        raise InputError("separator is empty", suggestion="write the sign between the labels, separator: '|'")


Read = tuple[tuple[str, ...], str, dict[str, list[Any]], list[str]]  # outputs' names, task, targets, what to say


def _by_names(tables: dict[str, Table], column: str, separator: str | None, task: str) -> Read:
    """Targets of the texts in one column."""
    kind, notes = _task_of(tables["train"], separator) if task == "auto" else (task, [])
    labels = _Labels(kind, separator, tables["train"])
    targets = {part: [labels.target(table, row) for row in table.rows] for part, table in tables.items()}
    sound = not any(isinstance(target, Problem) for each in targets.values() for target in each)
    if sound and (ragged := labels.ragged(tables, targets)):
        raise InputError(first_problems(ragged, SHOWN))
    names = labels.classes
    if kind == "regression":  # its values are called by the column
        count = len(targets["train"][0]) if sound and separator is not None else 1
        names = (column,) if count == 1 else tuple(f"{column} {place}" for place in range(1, count + 1))
    return names, kind, targets, notes


def _by_columns(tables: dict[str, Table], names: Sequence[str], separator: str | None, task: str) -> Read:
    """Targets of the numbers in a column each."""
    if separator is not None:
        message = "separator parts the labels of one cell, and label_column names several columns"
        raise InputError(message, suggestion="remove separator")
    labels = ColumnLabels(task, names, tables)
    if labels.problems:
        raise InputError(first_problems(labels.problems, SHOWN))
    targets = {part: labels.targets(part, table) for part, table in tables.items()}
    return labels.classes, labels.task, targets, labels.notes(tables["train"].file)


def read_table(
    path: Path, image_column: str, label_column: str | Sequence[str], split_column: str = "", *, labelled: bool = True
) -> Table:
    """The rows of a CSV file with a header; relative image paths count from the file's folder.

    A file need not have the column `split_column`; with `labelled` every row needs a label. A row that repeats an
    earlier one is left out. Raises InputError for a file or another column that is not there, and for all rows at once
    that have no image file, no label, more cells than the header, or another label for an image of an earlier row.
    """
    path = path.expanduser()
    if not path.is_file():
        raise InputError(f"table {path} does not exist", suggestion=similar(path))
    text = _text(path)
    labels = [label_column] if isinstance(label_column, str) else list(label_column)
    delimiter, header = _header(path, text, (image_column, *labels), split_column)
    columns = (image_column, split_column, *labels)
    places = [header.index(name) if name in header else None for name in columns]
    table = Table(str(path), [], delimiter, [])
    if delimiter != ",":
        table.notes.append(f"{path}: its columns are separated by {DELIMITERS[delimiter]}")
    problems: list[Problem] = []
    first: dict[str, Row] = {}
    repeated, paths = 0, _Paths(path.parent)
    long: list[Row] = []
    for line, cells in _cells(path, text, delimiter):
        image, split, *own = [cells[at].strip() if at is not None and at < len(cells) else "" for at in places]
        label = CELLS.join(own)
        if not label.isascii():  # as the names of folders: a table made on another system may have the other form
            label = unicodedata.normalize("NFC", label)
        # of a million rows, most have one of a few labels: each is kept once
        row = Row(paths[image], sys.intern(label), sys.intern(split), line)
        before = first.setdefault(row.image, row)
        faults = _faults(table, row, image, labelled, len(cells) - len(header))
        if before is not row and not faults and before.label != label:
            here, there = (text.replace(CELLS, ", ") for text in (label, before.label))
            message = f"image {image} is listed twice, as {here!r} here and as {there!r} in line {before.line}"
            several = "several labels of an image go into one cell: separator: '|'"
            faults.append(table.problem(row, message, f"remove one of the rows; {several}"))
        problems += faults
        if before is row or before.split != split:
            table.rows.append(row)
        else:
            repeated += 1
        if "\n" in label or "\n" in image:
            long.append(row)
    if not table.rows:
        problems.append(Problem(f"table {path} has a header but no rows"))
    if long and long[-1] is row and text.count('"') % 2:
        problems.insert(0, table.problem(row, "this row goes on to the end of the file", UNCLOSED))
    if problems:
        raise InputError(first_problems(problems, SHOWN))
    if repeated:
        table.notes.append(f"warning: {path}: {repeated} rows repeat an image of an earlier row; each counts once")
    if long:
        count = f"{len(long)} rows go on over several lines, the first from" if len(long) > 1 else "a row of"
        more = "" if len(long) > 1 else " goes on over several lines"
        table.notes.append(f"warning: {path}: {count} line {long[0].line}{more}: {UNCLOSED}")
    return table


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


def _text(path: Path) -> str:
    content, hint = path.read_bytes(), "save it as CSV (UTF-8)"
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    if b"\0" in content[2:SAMPLE] and (not wide or b"\0\0" in content[2:SAMPLE]):
        raise InputError(f"table {path} is no text, or in another encoding than UTF-8", suggestion=hint)
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"table {path} is not UTF-8 text: {error}", suggestion=hint) from error


def _cells(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(first line, cells) of each row behind the header; lines end as CSV has it, not where Unicode may."""
    line = 1
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        next(reader, None)
        line = reader.line_num + 1
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        here = Location(str(path), line, 1)
        raise InputError(f"not a CSV table: {error}", location=here, suggestion=UNCLOSED) from error


def _header(path: Path, text: str, needed: Sequence[str], split_column: str) -> tuple[str, list[str]]:
    """The delimiter that gives a header with the columns needed, and the header's names.

    Raises InputError where none does, or a column that is used is there twice.
    """
    line = io.StringIO(text, newline="").readline()
    headers = {sign: _names(line, sign) for sign in DELIMITERS}
    delimiter = next((sign for sign, names in headers.items() if set(needed) <= set(names)), None)
    first = Location(str(path), 1, 1)
    if delimiter is None:
        header = max(headers.values(), key=len)
        there, hint = ", ".join(header) or "nothing", "the first line names the columns; image_column and label_column"
        raise InputError(
            Problem(
                f"no column {name!r}; there is: {there}", first, did_you_mean(name, header) or f"{hint} name others"
            )
            for name in needed
            if name not in header
        )
    header = headers[delimiter]
    if twice := [name for name in (*needed, split_column) if name and header.count(name) > 1]:
        raise InputError(Problem(f"column {name!r} is there twice", first, "rename one of them") for name in twice)
    return delimiter, header


def _names(line: str, delimiter: str) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])]
    except csv.Error:
        return []


def _faults(table: Table, row: Row, image: str, labelled: bool, more: int) -> list[Problem]:
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
            hint = "relative paths count from the table's folder"
            hint = "write / in place of \\" if "\\" in image else hint
            faults.append(table.problem(row, f"image {image} does not exist", hint))
        else:
            if not stat.S_ISREG(found.st_mode):
                faults.append(table.problem(row, f"image {image} is {kind_of(found.st_mode)}"))
            elif not found.st_size:
                faults.append(table.problem(row, f"image {image} is empty", "remove the row"))
    if labelled and not row.label:
        faults.append(table.problem(row, "no label in this row"))
    return faults


def _by_split(table: Table, column: str) -> dict[str, Table]:
    """The rows of each part as the split column says, and what to say about it; all of them train where no value of
    the column is a part's name, or only one part is there. Raises InputError naming the rows that say something else.
    """
    known = {split: part_called(split) for split in {row.split for row in table.rows}}
    parts = [known[row.split] for row in table.rows]
    if not any(parts) or len(set(parts)) == 1:
        return {"train": table}
    if None in parts:
        hint = "write train, validation or test; split_column: '' takes no column"
        raise InputError(
            table.problem(row, f"{column} {row.split!r} is no part of the data", did_you_mean(row.split, PARTS) or hint)
            for row, part in zip(table.rows, parts, strict=True)
            if part is None
        )
    rows = {part: [row for row, its in zip(table.rows, parts, strict=True) if its == part] for part in PARTS}
    tables = {part: table._replace(rows=rows[part], notes=table.notes) for part in PARTS if rows[part]}
    if "train" not in tables:
        raise InputError(f"{table.file}: no row says train in its column {column}", suggestion="split_column: ''")
    said = ", ".join(f"{len(each.rows)} {part}" for part, each in tables.items())
    table.notes.append(f"{table.file}: rows are parts by the column {column}: {said}")
    return tables


def _leaks(tables: dict[str, Table]) -> list[str]:
    """A warning for every two parts that share images."""
    images = {part: {row.image for row in table.rows} for part, table in tables.items()}
    return [
        f"warning: {len(shared)} images are in the {one} part and in the {other} part: {listed(sorted(shared), 3)}"
        for one, other in itertools.combinations(images, 2)
        if (shared := images[one] & images[other])
    ]


def _parts(label: str, separator: str | None) -> list[str]:
    if separator is None:
        return [label]
    return [part.strip() for part in label.split(separator) if part.strip()]


def _task_of(
    table: Table, separator: str | None
) -> tuple[Literal["classification", "multilabel", "regression"], list[str]]:
    """The task that a table's labels look like, and what to say about that.

    Raises InputError where whole numbers may be either classes or measured.
    """
    if separator is not None:
        return "multilabel", []
    labels = {row.label for row in table.rows}
    numbers = {label: number(label, table.delimiter) for label in labels}
    known = [number for number in numbers.values() if number is not None]
    if not known:
        missing = sorted(label for label in labels if label.lower() in MISSING)
        return "classification", [f"warning: {table.file}: {name!r} is taken for a class" for name in missing]
    whole = all(number.is_integer() for number in known)
    if not whole and 2 * len(known) > len(labels):
        return "regression", []  # a label that is no number is named with its row
    if not whole or len(known) < len(labels) or len(labels) <= MANY_CLASSES:
        return "classification", []
    what = f"{table.file}: the labels are {len(labels)} different whole numbers, {min(known):g} to {max(known):g}"
    if len(labels) * 5 > len(table.rows):
        raise InputError(f"{what}: classes or measured?", suggestion="write task: regression or task: classification")
    return "classification", [f"warning: {what}: taken for classes; measured values need task: regression"]


class _Labels:
    """What the labels of a task become as targets; `classes` are the names in the training table."""

    def __init__(self, task: str, separator: str | None, train: Table) -> None:
        self.task, self.separator = task, separator
        texts = {row.label for row in train.rows} if task != "regression" else set()
        self.classes = _class_names(_parts(text, separator) for text in texts)
        self.index = {name: number for number, name in enumerate(self.classes)}

    def target(self, table: Table, row: Row) -> Any:
        """A class index, a multi-hot list, a number or a list of numbers; a Problem where the label is none."""
        parts = _parts(row.label, self.separator)
        if self.task == "regression":
            numbers = [number(part, table.delimiter) for part in parts]
            if not numbers or None in numbers:
                hint = "remove the row, or measure it; task: classification takes names"
                return table.problem(row, f"label {row.label!r} is not a number", hint)
            return numbers[0] if self.separator is None else numbers
        if strange := [part for part in parts if part not in self.index]:
            near = did_you_mean(strange[0], self.index)
            return table.problem(row, f"label {strange[0]!r} does not occur in the training table", near)
        if self.task == "multilabel":
            chosen = {self.index[part] for part in parts}
            return [float(place in chosen) for place in range(len(self.classes))]
        return self.index[row.label]

    def ragged(self, tables: dict[str, Table], targets: dict[str, list[Any]]) -> list[Problem]:
        """Every row whose regression target has another count of numbers than the first."""
        if self.task != "regression" or self.separator is None:
            return []
        count = len(targets["train"][0])
        return [
            table.problem(row, f"label {row.label!r} has {len(target)} numbers, the first row has {count}")
            for part, table in tables.items()
            for row, target in zip(table.rows, targets[part], strict=True)
            if len(target) != count
        ]


def _class_names(labels: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """All names in order: by value where every one is a number, else as text."""
    names = {name for label in labels for name in label}
    if None in [number(name) for name in names]:
        return tuple(sorted(names))
    return tuple(sorted(names, key=lambda name: (float(name), name)))
