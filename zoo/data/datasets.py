"""zoo's own data sets: a folder of images, a table of paths and labels. Importing this needs no torch."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from zoo.contracts import Data
from zoo.errors import InputError, Location, Problem, did_you_mean

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif"})
TRAIN = ("train", "training")
VALIDATION = ("val", "valid", "validation", "test")


@dataclass(frozen=True)
class ListedSamples:
    """Inputs and targets by position: the map-style data set of both."""

    inputs: Sequence[Any]
    targets: Sequence[Any]

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.inputs[index], self.targets[index]


def image_folder(path: str) -> Data:
    """Images sorted into one sub-folder a class; the folders' names, sorted, are the classes.

    `path` contains either the class folders themselves (a seeded part is then held out for validation) or `train` and
    one of `val`, `valid`, `validation`, `test`, each with class folders. Images may lie deeper; hidden files are passed
    over. Raises InputError naming every class folder without images, every empty file, and every validation class that
    training lacks.
    """
    root = _folder(path)
    train, validation = _part(root, TRAIN), _part(root, VALIDATION)
    if train is None:
        classes = _class_folders(root)
        return Data(_samples(root, classes), classes=classes)
    classes = _class_folders(train)
    if validation is None:
        return Data(_samples(train, classes), classes=classes)
    if strange := sorted(set(_class_folders(validation)) - set(classes)):
        message = f"{validation}: class {{!r}} does not occur in {train}"
        raise InputError(Problem(message.format(name), None, did_you_mean(name, classes)) for name in strange)
    held_out = _samples(validation, _class_folders(validation), classes)
    return Data(_samples(train, classes), held_out, classes=classes)


def csv_table(
    path: str,
    *,
    image_column: str = "path",
    label_column: str = "label",
    separator: str | None = None,
    task: Literal["auto", "classification", "multilabel", "regression"] = "auto",
    validation: str | None = None,
) -> Data:
    """Images and labels listed in a CSV file with a header; relative image paths count from the file's folder.

    `separator` splits a label into several: class names of a multi-label set, or the numbers of a regression target.
    Without `task`, labels with a separator are multi-label, labels that are all numbers and not all integers are a
    regression, all else is classification. `validation` is a second file with the same columns; without it a seeded
    part is held out. Raises InputError naming every row without an image, label or readable number.
    """
    columns = (image_column, label_column)
    rows = read_table(Path(path), *columns)
    held_out = read_table(Path(validation), *columns) if validation else None
    kind = task if task != "auto" else _task_of([row.label for row in rows], separator)
    classes = () if kind == "regression" else _class_names(_parts(row.label, separator) for row in rows)
    index = {name: number for number, name in enumerate(classes)}

    def samples(table: Sequence[Any]) -> ListedSamples:
        targets = [_target(row, kind, separator, index) for row in table]
        if problems := [target for target in targets if isinstance(target, Problem)]:
            raise InputError(problems)
        return ListedSamples([str(row.image) for row in table], targets)

    return Data(samples(rows), samples(held_out) if held_out else None, classes=classes, task=kind)


def _folder(path: str) -> Path:
    root = Path(path).expanduser()
    if not root.is_dir():
        what = "is a file, not a folder" if root.is_file() else "does not exist"
        raise InputError(f"image folder {path} {what}", suggestion=_similar(root))
    return root


def _similar(path: Path) -> str | None:
    """What in the same folder may have been meant."""
    return did_you_mean(path.name, [entry.name for entry in path.parent.iterdir()]) if path.parent.is_dir() else None


def _part(root: Path, names: Sequence[str]) -> Path | None:
    present = {entry.name.lower(): entry for entry in root.iterdir() if entry.is_dir()}
    return next((present[name] for name in names if name in present), None)


def _class_folders(root: Path) -> tuple[str, ...]:
    names = tuple(sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")))
    if not names:
        raise InputError(f"{root} contains no class folders", suggestion=f"sort the images: {root}/CLASS/IMAGE.jpg")
    return names


def _samples(root: Path, folders: Sequence[str], classes: Sequence[str] | None = None) -> ListedSamples:
    inputs: list[str] = []
    targets: list[int] = []
    problems: list[Problem] = []
    index = {name: number for number, name in enumerate(classes or folders)}
    for name in folders:
        images = list(images_in(root / name))
        if not images:
            known = " ".join(sorted(EXTENSIONS))
            problems.append(
                Problem(f"class folder {root / name} contains no images", None, f"remove it; known: {known}")
            )
        problems += [Problem(f"{image} is empty", None, "remove it") for image in images if not image.stat().st_size]
        inputs += [str(image) for image in images]
        targets += [index[name]] * len(images)
    if problems:
        raise InputError(problems)
    return ListedSamples(inputs, targets)


def images_in(folder: Path) -> Iterable[Path]:
    """Image files in `folder` and below, sorted; hidden ones and other types are passed over."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS)
    return sorted(path for path in found if not path.name.startswith(".") and path.is_file())


@dataclass(frozen=True)
class Row:
    """One image of a table, and where it stands there."""

    image: Path
    label: str
    location: Location


def read_table(path: Path, image_column: str, label_column: str) -> list[Row]:
    """The rows of a CSV file with a header; relative image paths count from the file's folder.

    Raises InputError for a file or column that is not there, and for all rows without an image file or label at once.
    """
    path = path.expanduser()
    if not path.is_file():
        raise InputError(f"table {path} does not exist", suggestion=_similar(path))
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


def _parts(label: str, separator: str | None) -> list[str]:
    if separator is None:
        return [label]
    return [part.strip() for part in label.split(separator) if part.strip()]


def _task_of(labels: Sequence[str], separator: str | None) -> str:
    if separator is not None:
        return "multilabel"
    numbers = [_number(label) for label in labels]
    known = [number for number in numbers if number is not None]
    integers = all(number.is_integer() for number in known)
    return "regression" if len(known) == len(labels) and not integers else "classification"


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _class_names(labels: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """All names in order: by value where every one is a number, else as text."""
    names = {name for label in labels for name in label}
    values = [_number(name) for name in names]
    if None in values:
        return tuple(sorted(names))
    return tuple(sorted(names, key=lambda name: (float(name), name)))


def _target(row: Any, task: str, separator: str | None, index: dict[str, int]) -> Any:
    parts = _parts(row.label, separator)
    if task == "regression":
        numbers = [_number(part) for part in parts]
        if not numbers or None in numbers:
            return Problem(f"label {row.label!r} is not a number", row.location, "task: classification takes names")
        return numbers[0] if separator is None else numbers
    if strange := [part for part in parts if part not in index]:
        hint = did_you_mean(strange[0], index)
        return Problem(f"label {strange[0]!r} does not occur in the training table", row.location, hint)
    if task == "multilabel":
        return [1.0 if name in parts else 0.0 for name in index]
    return index[row.label]
