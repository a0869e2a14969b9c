"""The folder that the paths of a checkpoint's data count from: complete in memory, in a file as seen from there.

So the data is found from any current directory, also after checkpoint and data have moved together, and a file that is
shared names no folder of whoever made it.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePath
from typing import Any

from pydantic import ValidationError

from zoo.errors import InputError
from zoo.recipe.options import DataOptions

FOLDER = "folder"


def as_stored(data: dict[str, Any] | None, path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The data as the checkpoint at `path` keeps it."""
    if data is None or not isinstance(folder := data.get(FOLDER), str):
        return data
    try:
        seen = Path(os.path.relpath(folder, Path(os.path.realpath(path)).parent)).as_posix()
    except ValueError:  # it is on another drive
        return {key: value for key, value in data.items() if key != FOLDER}
    return data | {FOLDER: seen}


def as_loaded(data: dict[str, Any] | None, path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The data that the checkpoint at `path` keeps, with the complete path of its folder."""
    if data is None or not isinstance(folder := data.get(FOLDER), str) or PurePath(folder).is_absolute():
        return data
    return data | {FOLDER: os.path.normpath(Path(os.path.realpath(path)).parent / folder)}


def found_from(stored: dict[str, Any]) -> DataOptions:
    """The options under `options`, each relative path among the arguments made one that leads there from `folder`.

    A text counts as a path where something is there; what is not there stays as it was written. Raises InputError
    where the options are none.
    """
    try:
        options, folder = DataOptions.model_validate(stored.get("options")), stored.get("folder")
    except ValidationError as error:
        raise InputError("what the checkpoint says of its data is no data section: was the file edited?") from error
    if not isinstance(folder, str):
        return options
    arguments = {key: _found(value, Path(folder)) for key, value in options.arguments.items()}
    return options.model_copy(update={"arguments": arguments})


def _found(value: Any, folder: Path) -> Any:
    if not isinstance(value, str) or not value or "\0" in value or Path(value).is_absolute() or value.startswith("~"):
        return value
    there = os.path.normpath(folder / value)
    return there if os.path.exists(there) else value
