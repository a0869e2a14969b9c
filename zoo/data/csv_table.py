"""The data set of a table that lists image files and labels. Importing this needs no torch."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from zoo.contracts import Data
from zoo.data.datasets import PARTS, ListedSamples, alike, files_named, part_called
from zoo.data.label_columns import ColumnLabels
from zoo.data.table_file import SHOWN, read_table
from zoo.data.table_rows import Row, Rows, Table, number
from zoo.errors import InputError, Problem, did_you_mean, first_problems, listed

MISSING = frozenset({"nan", "na", "n/a", "#n/a", "#na", "<na>", "nat", "null", "nil", "none", "?", "-", "--"})
"""How tables spell that nothing was measured."""
MANY_CLASSES = 20  # whole numbers up to so many are taken for classes without a word
MEASURED = re.compile(r"[-+\u2212]?[\d.,' ]*\d ?(%|[^\W\d_]{1,3})?")  # 0,5 and 1,200.5 and 3 mm
SIGNS = "|;,+ "  # what may stand between several classes in one cell
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
    samples: dict[str, Any] = {part: ListedSamples(tables[part].rows.images, targets[part]) for part in tables}
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


def _by_split(table: Table, column: str) -> dict[str, Table]:
    """The rows of each part as the split column says, and what to say about it; all of them train where no value of
    the column is a part's name, or only one part is there. Raises InputError naming the rows that say something else.
    """
    known = {split: part_called(split) for split in set(table.rows.splits)}
    if not any(known.values()) and any(known):
        said = listed(sorted(map(repr, known)), 3)
        table.notes.append(f"{table.file}: column {column} says {said}, which are no parts of the data: all rows train")
    if not any(known.values()) or len(set(known.values())) == 1:
        return {"train": table}
    parts = [known[split] for split in table.rows.splits]
    if None in parts:
        hint = "write train, validation or test; split_column: '' takes no column"
        raise InputError(
            table.problem(row, f"{column} {row.split!r} is no part of the data", did_you_mean(row.split, PARTS) or hint)
            for row, part in zip(table.rows, parts, strict=True)
            if part is None
        )
    rows = {part: Rows(row for row, its in zip(table.rows, parts, strict=True) if its == part) for part in PARTS}
    tables = {part: table._replace(rows=rows[part], notes=table.notes) for part in PARTS if rows[part]}
    if "train" not in tables:
        raise InputError(f"{table.file}: no row says train in its column {column}", suggestion="split_column: ''")
    said = ", ".join(f"{len(each.rows)} {part}" for part, each in tables.items())
    table.notes.append(f"{table.file}: rows are parts by the column {column}: {said}")
    return tables


def _leaks(tables: dict[str, Table]) -> list[str]:
    """A warning for every two parts that share images."""
    images = {part: set(table.rows.images) for part, table in tables.items()} if len(tables) > 1 else {}
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
    labels = set(table.rows.labels)
    numbers = {label: number(label, table.delimiter) for label in labels}
    known = [number for number in numbers.values() if number is not None]
    missing = sorted(label for label in labels if label.lower() in MISSING)
    names = [label for label, value in numbers.items() if value is None and label.lower() not in MISSING]
    notes = [f"warning: {table.file}: {name!r} is taken for a class" for name in missing]
    notes += [f"warning: {table.file}: {text}" for text in _several(names)]
    if 2 * sum(MEASURED.fullmatch(label) is not None for label in names) > len(labels):
        _ask_if_measured(table, names)
    whole = all(number.is_integer() for number in known)
    if not whole and 2 * len(known) > len(labels):
        return "regression", []  # a label that is no number is named with its row
    if not whole or not known or names or len(labels) <= MANY_CLASSES:
        return "classification", notes
    what = f"{table.file}: the labels are {len(known)} different whole numbers, {min(known):g} to {max(known):g}"
    if len(labels) * 5 > len(table.rows):
        raise InputError(f"{what}: classes or measured?", suggestion="write task: regression or task: classification")
    return "classification", [*notes, f"warning: {what}: taken for classes; measured values need task: regression"]


def _ask_if_measured(table: Table, names: Sequence[str]) -> None:
    """Raises InputError where most labels are numbers with something about them, and seldom the same."""
    if 2 * len(names) > len(table.rows) or len(names) > MANY_CLASSES:
        what = f"{table.file}: labels such as {min(names)!r} look measured, and are no numbers"
        hint = "write 0.5 alone, with a point; task: classification takes them for names"
        raise InputError(f"{what}: classes or measured?", suggestion=hint)


def _several(names: Sequence[str]) -> list[str]:
    """What to say of labels that look like several classes of an image: their parts are labels, too, or come again."""
    for sign in SIGNS:
        joint = [name for name in names if sign in name.strip(sign)]
        parts = {part.strip() for name in joint for part in name.split(sign)} - {""}
        if joint and (parts <= set(names) or 2 * len(parts) < len(joint)):
            return [f"{min(joint)!r} is taken for one class; several in a cell need separator: {sign!r}"]
    return []


class _Labels:
    """What the labels of a task become as targets; `classes` are the names in the training table."""

    def __init__(self, task: str, separator: str | None, train: Table) -> None:
        self.task, self.separator = task, separator
        texts = set(train.rows.labels) if task != "regression" else set()
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
