"""Opening one of torchvision's datasets, with its many failures as messages that say what to do."""

from __future__ import annotations

import re
from typing import Any

from zoo.api import Data
from zoo.errors import InputError, WorkError

_FAILURES = (RuntimeError, OSError, ValueError)  # what torchvision raises for files that are missing or broken


def open_split(name: str, root: str, *, download: bool = False, fetchable: bool = True, **arguments: Any) -> Any:
    """`torchvision.datasets.<name>(root, …)`: images as PIL, plain targets.

    What is there already is not fetched again (some of torchvision's classes refuse a second `download=True`).
    Raises InputError when the files are not there, WorkError when fetching them failed.
    """
    from torchvision import datasets

    make = getattr(datasets, name)
    if fetchable:
        arguments["download"] = False  # SEMEION's own default is to fetch
    try:
        return make(root, **arguments)
    except ModuleNotFoundError as error:
        raise InputError(f"{name} needs {error.name}", suggestion=f"pip install {error.name}") from error
    except _FAILURES as error:
        if not download:
            raise _missing(name, root, error, fetchable=fetchable) from error
    try:
        return make(root, **{**arguments, "download": True})
    except (ModuleNotFoundError, *_FAILURES) as error:
        hint = f"check the network, or lay the files under {root!r} by hand, as torchvision keeps them there"
        message = f"{name} could not be fetched into {root!r}: {_fetching(error)}"
        raise WorkError(message, suggestion=hint) from error


def _missing(name: str, root: str, error: Exception, *, fetchable: bool) -> InputError:
    hint = "write `download: true` to fetch it, or `root:` to say where it lies"
    by_hand = f"torchvision cannot fetch it; the documentation of torchvision.datasets.{name} says where it comes from"
    return InputError(
        f"{name} is not usable under root {root!r}: {_first_line(error)}", suggestion=hint if fetchable else by_hand
    )


def _first_line(error: Exception) -> str:
    """What torchvision says, without its advice to pass `download=True`, which is another word in a recipe."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r"\.? You can \w+ download=True to download it\.?$", "", line)


def _fetching(error: Exception) -> str:
    """Why fetching failed: where several mirrors were tried, also what the last one answered."""
    last = str(error).strip().splitlines()[1:][-1:]
    return ": ".join([_first_line(error).rstrip(":"), *map(str.strip, last)])


def as_data(
    train: Any, validation: Any = None, test: Any = None, *, classes: Any = None, task: str = "classification"
) -> Data:
    """A Data of the splits; the classes are the dataset's own unless given."""
    return Data(train, validation, class_names(train) if classes is None else classes, task, test=test)


def class_names(dataset: Any) -> tuple[str, ...]:
    """The names a torchvision dataset gives its classes, under whichever attribute; the first of several synonyms."""
    for attribute in ("classes", "annotation_categories", "categories", "all_categories"):
        if names := getattr(dataset, attribute, None):
            return tuple(name if isinstance(name, str) else name[0] for name in names)
    return ()


def digits(count: int = 10) -> tuple[str, ...]:
    """Numbers as names, for datasets that name their classes nowhere."""
    return tuple(str(number) for number in range(count))
