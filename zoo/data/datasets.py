"""What zoo's own data sets share: samples listed by position, and what a part of the data is called. Needs no torch."""

from __future__ import annotations

import contextlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import InputError, did_you_mean

PARTS = {  # what a folder, or a value of a table's split column, is called that is a part of the data
    "train": ("train", "training", "train_set", "training_set", "train_data", "training_data"),
    "validation": (
        "val",
        "valid",
        "validation",
        "dev",
        "val_set",
        "validation_set",
        "dev_set",
        "val_data",
        "validation_data",
    ),
    "test": ("test", "testing", "test_set", "testing_set", "test_data", "testing_data"),
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


@contextlib.contextmanager
def files_named() -> Iterator[None]:
    """Raises InputError naming the file or folder for one that the system does not let be read."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        raise InputError(f"cannot read {os.fsdecode(error.filename)}: {error.strerror}") from error


def part_called(name: str) -> str | None:
    """The part of the data that a folder or a value of a split column stands for by its name."""
    return next((part for part, names in PARTS.items() if name.strip().lower().replace("-", "_") in names), None)


def alike(classes: Iterable[str]) -> list[str]:
    """What to say of class names that look as if one was meant: "the classes Cat and cat differ only in …"."""
    cases: dict[str, list[str]] = {}
    looks: dict[str, list[str]] = {}
    numbers: dict[float, list[str]] = {}
    for name in classes:
        cases.setdefault(name.casefold(), []).append(name)
        if name[:1].isdecimal() and re.fullmatch(r"\d{1,15}(\.\d{1,15})?", name):
            numbers.setdefault(float(name), []).append(name)
    for case in cases:
        plain = case if case.isascii() and case.isprintable() else _as_seen(case)
        looks.setdefault(" ".join(plain.split()), []).append(case)
    said = "the classes {} differ only in {}"
    return [
        *(said.format(" and ".join(same), "upper and lower case") for same in cases.values() if len(same) > 1),
        *(
            said.format(" and ".join(repr(cases[case][0]) for case in same), "signs that look alike or are not seen")
            for same in looks.values()
            if len(same) > 1
        ),
        *(f"the classes {' and '.join(same)} are the same number" for same in numbers.values() if len(same) > 1),
    ]


def _as_seen(name: str) -> str:
    """Letters in one form (NFKC: wide ones, ligatures, spaces), and without signs that are not seen."""
    kept = unicodedata.normalize("NFKC", name)
    return "".join(sign for sign in kept if unicodedata.category(sign) not in ("Cf", "Cc"))


def similar(path: Path) -> str | None:
    """What in the same folder may have been meant."""
    return did_you_mean(path.name, [entry.name for entry in path.parent.iterdir()]) if path.parent.is_dir() else None
