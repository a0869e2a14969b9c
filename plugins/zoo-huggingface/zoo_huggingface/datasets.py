"""Data sets of the library `datasets`: of the Hugging Face hub, or folders and files in its formats.

Nothing is streamed, and no code of a data set's is run: `datasets` has had no loading scripts since version 4.
Importing this imports neither datasets nor torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zoo.api import Data, InputError, WorkError
from zoo.errors import did_you_mean, listed
from zoo_huggingface.labels import Labels
from zoo_huggingface.rows import Rows

_PARTS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
_FILES = {".parquet": "parquet", ".arrow": "arrow"}


def dataset(
    path: str,
    *,
    name: str | None = None,
    image: str | None = None,
    label: str | None = None,
    train: str = "train",
    validation: str | None = None,
    test: str | None = None,
    revision: str | None = None,
    download: bool = False,
) -> Data:
    """A data set of Hugging Face's `datasets`: a folder or file in its formats, or one of the hub.

    `path` is what `save_to_disk` wrote, a folder of parquet or arrow files or of images in folders (metadata.csv
    counts), one such file, or `ORG/NAME` of the hub, which `download: true` fetches into the cache of `datasets`;
    `name` is one of several configurations, `revision` a branch, tag or commit. `image` and `label` are columns, found
    by their types where there is one of each. `train`, `validation` and `test` are the names of splits; those called
    so are found by themselves, and zoo holds out what is not there. A label is a class (with the names of a
    `ClassLabel`, or a text), a list of classes (multi-label), or floating-point numbers (regression). A split whose
    labels are all hidden (-1) is left out. Raises InputError for what is not there or has no images and labels.
    """
    splits = _splits(path, name, revision, download)
    named = {part: _split_called(given, part, splits, path) for part, given in _given(train, validation, test).items()}
    tables = {part: splits[found] for part, found in named.items() if found is not None}
    picture = _column(tables["train"], image, _is_image, "image", path)
    target = _column(tables["train"], label, _is_label, "label", path)
    labels = Labels(tables["train"], target)
    parts: dict[str, Rows] = {}
    renamed = {part: found for part, found in named.items() if found not in (None, part)}
    notes = [f"{path}: the split {found} is the {part} part" for part, found in renamed.items()]
    for part, table in tables.items():
        if part != "train" and labels.hidden(table):
            notes.append(f"{path}: the labels of the split {named[part]} are hidden, so it is left out")
        else:
            parts[part] = Rows(table, picture, labels.targets(table, f"{path}, split {named[part]}"))
    return Data(
        parts["train"], parts.get("validation"), labels.classes, labels.task, test=parts.get("test"), notes=notes
    )


def _given(train: str, validation: str | None, test: str | None) -> dict[str, str | None]:
    return {"train": train, "validation": validation, "test": test}


def _splits(path: str, name: str | None, revision: str | None, download: bool) -> Mapping[str, Any]:
    """Every split by its name; of a data set without splits, the one as `train`."""
    try:
        import datasets
    except ModuleNotFoundError as error:
        hint = 'pip install "zoo-huggingface[datasets]"'
        raise InputError("huggingface/dataset needs the library datasets", suggestion=hint) from error
    with _quiet(datasets), contextlib.nullcontext() if download else _offline(datasets):
        try:
            found = _open(datasets, path, name, revision)
        except Exception as error:  # it raises many kinds of errors, and those of the libraries below it
            raise _failure(path, download, error) from error
    return found if isinstance(found, Mapping) else {"train": found}


def _open(datasets: Any, path: str, name: str | None, revision: str | None) -> Any:
    place = Path(path).expanduser()
    if not place.exists():
        return datasets.load_dataset(path, name, revision=revision)
    if (place / "dataset_dict.json").is_file() or (place / "state.json").is_file():
        return datasets.load_from_disk(str(place))
    if place.is_file():
        if place.suffix not in _FILES:
            hint = "name a folder, or such a file"
            raise InputError(f"{path} is neither a parquet nor an arrow file", suggestion=hint)
        return datasets.load_dataset(_FILES[place.suffix], data_files=str(place))
    return datasets.load_dataset(str(place), name)


def _failure(path: str, download: bool, error: Exception) -> InputError | WorkError:
    if isinstance(error, InputError):
        return error
    said = " ".join((str(error).strip() or type(error).__name__).split())[:400]
    if Path(path).expanduser().exists():
        return InputError(f"{path} is no data set that datasets reads: {said}")
    if download:
        hint = "check the name and the network; a private one needs `hf auth login`"
        return WorkError(f"the data set {path} cannot be fetched: {said}", suggestion=hint)
    hint = "write `download: true` to fetch it from the hub, or the path of a folder that is here"
    return InputError(f"the data set {path} is not on this machine", suggestion=hint)


def _split_called(given: str | None, part: str, splits: Mapping[str, Any], path: str) -> str | None:
    """The name of the split that is a part of the data; None where there is none."""
    wanted = _PARTS[part] if given is None else (given,)
    found = next((name for name in wanted if name in splits), None)
    if found is None and given is not None:
        hint = did_you_mean(given, splits) or f"its splits: {listed(list(splits))}"
        raise InputError(f"{path} has no split {given!r}", suggestion=f"{part}: … names one; {hint}")
    return found


def _column(table: Any, given: str | None, fits: Any, what: str, path: str) -> str:
    """The column that is named, else the only one of its type."""
    kinds = table.features
    if given is not None:
        if given not in kinds:
            hint = did_you_mean(given, kinds) or f"its columns: {listed(list(kinds))}"
            raise InputError(f"{path} has no column {given!r}", suggestion=hint)
        if what == "image" and not fits(given, kinds[given]):
            hint = "cast_column(…, datasets.Image()) makes images of file names and bytes"
            raise InputError(f"the column {given!r} of {path} contains no images", suggestion=hint)
        return given
    found: list[str] = [name for name, kind in kinds.items() if fits(name, kind)]
    if len(found) != 1:
        said = f"{len(found)} columns that may be the {what}: {listed(found)}"
        said = said if found else f"no {what} column by its type"
        raise InputError(f"{path} has {said}", suggestion=f"write {what}: COLUMN, of {listed(list(kinds))}")
    return found[0]


def _is_image(_name: str, kind: Any) -> bool:
    return type(kind).__name__ == "Image"


def _is_label(name: str, kind: Any) -> bool:
    inner = getattr(kind, "feature", kind)
    return type(inner).__name__ == "ClassLabel" or name in ("label", "labels", "target")


@contextlib.contextmanager
def _offline(datasets: Any) -> Iterator[None]:
    """Without the network: a folder's README may name addresses, and a hub's data set is asked for by its name."""
    from unittest import mock

    from huggingface_hub import constants

    with contextlib.ExitStack() as stack:
        for settings in (datasets.config, constants):
            stack.enter_context(mock.patch.object(settings, "HF_HUB_OFFLINE", True))
        yield


@contextlib.contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Without progress bars: a run's lines are zoo's."""
    shown = datasets.are_progress_bars_disabled() is False
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
