"""zoo's own data sets: a folder of images, a table of paths and labels. Importing this needs no torch."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from zoo.contracts import Data
from zoo.errors import InputError, Location, Problem, did_you_mean, listed

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif"})
PARTS = {  # what a folder, or a value of a table's split column, is called that is a part of the data
    "train": ("train", "training", "train_set", "training_set"),
    "validation": ("val", "valid", "validation", "dev", "val_set", "validation_set", "dev_set"),
    "test": ("test", "testing", "test_set", "testing_set"),
}


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

    `path` contains either the class folders themselves (seeded parts are then held out) or a folder for each part, each
    with class folders: `train`, for validation `val`, `valid`, `validation` or `dev`, and `test`. Images may lie
    deeper; hidden files are passed over. Raises InputError naming every class folder without images, every empty file,
    and every class of another part that training lacks.
    """
    root = _folder(path)
    parts, notes = _part_folders(root)
    if not parts:
        classes = _class_folders(root)
        return Data(_samples(root, classes), classes=classes)
    folders = {part: _class_folders(folder) for part, folder in parts.items()}
    classes, message = folders["train"], "{}: class {!r} does not occur in {}"
    if strange := [(part, name) for part in parts for name in folders[part] if name not in classes]:
        raise InputError(
            Problem(message.format(parts[part], name, parts["train"]), None, did_you_mean(name, classes))
            for part, name in strange
        )
    samples: dict[str, Any] = {part: _samples(folder, folders[part], classes) for part, folder in parts.items()}
    return Data(**samples, classes=classes, notes=notes)


def csv_table(
    path: str,
    *,
    image_column: str = "path",
    label_column: str = "label",
    separator: str | None = None,
    task: Literal["auto", "classification", "multilabel", "regression"] = "auto",
    validation: str | None = None,
    test: str | None = None,
    split_column: str = "split",
) -> Data:
    """Images and labels listed in a CSV file with a header; relative image paths count from the file's folder.

    `separator` splits a label into several: class names of a multi-label set, or the numbers of a regression target.
    Without `task`, labels with a separator are multi-label, labels that are all numbers and not all integers are a
    regression, all else is classification. `validation` and `test` are files with the same columns. Without them a
    column `split_column` counts, where there is one, that says train, validation (val, dev) or test in each row; else
    seeded parts are held out. Raises InputError naming every row without an image, label or readable number.
    """
    columns = (image_column, label_column, split_column)
    tables, notes = _by_split(read_table(Path(path), *columns), split_column)
    for part, file in (("validation", validation), ("test", test)):
        if file is not None and part in tables:
            message = f"{path} has {part} rows in its column {split_column}, and {part} names another table"
            raise InputError(message, suggestion=f"remove {part}, or name no column: split_column: ''")
        if file is not None:
            tables[part] = read_table(Path(file), *columns)
    rows = tables["train"]
    kind = task if task != "auto" else _task_of([row.label for row in rows], separator)
    classes = () if kind == "regression" else _class_names(_parts(row.label, separator) for row in rows)
    index = {name: number for number, name in enumerate(classes)}
    targets = {part: [_target(row, kind, separator, index) for row in table] for part, table in tables.items()}
    if problems := [target for table in targets.values() for target in table if isinstance(target, Problem)]:
        raise InputError(problems)
    samples: dict[str, Any] = {
        part: ListedSamples([str(row.image) for row in tables[part]], targets[part]) for part in tables
    }
    return Data(**samples, classes=classes, task=kind, notes=notes)


def _by_split(rows: Sequence[Row], column: str) -> tuple[dict[str, list[Row]], list[str]]:
    """The rows of each part as the split column says, and what to say about it; all of them train where no value of
    the column is a part's name, or only one part is there. Raises InputError naming the rows that say something else.
    """
    parts = [part_called(row.split) for row in rows]
    if len({part for part in parts if part}) == 0 or len(set(parts)) == 1:
        return {"train": list(rows)}, []
    if None in parts:
        hint = "write train, validation or test; split_column: '' takes no column"
        raise InputError(
            Problem(
                f"{column} {row.split!r} is no part of the data", row.location, did_you_mean(row.split, PARTS) or hint
            )
            for row, part in zip(rows, parts, strict=True)
            if part is None
        )
    tables = {part: [row for row, its in zip(rows, parts, strict=True) if its == part] for part in PARTS}
    tables = {part: table for part, table in tables.items() if table}
    file = rows[0].location.file
    if "train" not in tables:
        raise InputError(f"{file}: no row says train in its column {column}", suggestion="split_column: ''")
    said = ", ".join(f"{len(table)} {part}" for part, table in tables.items())
    return tables, [f"{file}: rows are parts by the column {column}: {said}"]


def _folder(path: str) -> Path:
    root = Path(path).expanduser()
    if not root.is_dir():
        what = "is a file, not a folder" if root.is_file() else "does not exist"
        raise InputError(f"image folder {path} {what}", suggestion=_similar(root))
    return root


def _similar(path: Path) -> str | None:
    """What in the same folder may have been meant."""
    return did_you_mean(path.name, [entry.name for entry in path.parent.iterdir()]) if path.parent.is_dir() else None


def part_called(name: str) -> str | None:
    """The part of the data that a folder or a value of a split column stands for by its name."""
    return next((part for part, names in PARTS.items() if name.strip().lower().replace("-", "_") in names), None)


def _part_folders(root: Path) -> tuple[dict[str, Path], list[str]]:
    """The folder of each part, and what to say about them; none where the folders are the classes themselves.

    A folder is a part by its name, and by containing folders itself: a class may be called train.
    Raises InputError where two folders are one part, or there is nothing to train on.
    """
    inside = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    named = [(part_called(entry.name), entry) for entry in inside]
    named = [(part, entry) for part, entry in named if part and any(inner.is_dir() for inner in entry.iterdir())]
    parts = {part: entry for part, entry in reversed(named) if part}
    if not parts or ("train" not in parts and len(named) < len(inside)):
        return {}, []
    if len(parts) < len(named):
        raise InputError(f"{root}: {', '.join(entry.name for _, entry in named)} mean one part of the data twice")
    if "train" not in parts:
        found = " and ".join(entry.name for entry in parts.values())
        message, first = f"{root} contains {found}, and no train folder", next(iter(parts.values()))
        raise InputError(message, suggestion=f"name one by itself, {first}, or call the training images' folder train")
    notes = [f"{root}: {', '.join(f'{parts[part].name}/ is the {part} part' for part in PARTS if part in parts)}"]
    if left := [entry.name for entry in inside if entry not in parts.values()]:
        notes.append(f"warning: {root}: {listed(left)} beside {parts['train'].name}/ is not used")
    return {part: parts[part] for part in PARTS if part in parts}, notes


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
    split: str = ""


def read_table(path: Path, image_column: str, label_column: str, split_column: str = "") -> list[Row]:
    """The rows of a CSV file with a header; relative image paths count from the file's folder.

    A file need not have the column `split_column`. Raises InputError for a file or another column that is not there,
    and for all rows without an image file or label at once.
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
        row = Row(path.parent / image, label, here, (values.get(split_column) or "").strip())
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
