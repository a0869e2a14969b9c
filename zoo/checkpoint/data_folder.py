"""The folder that the paths of a checkpoint's data count from: complete in memory, in a file as seen from there.

So the data is found from any current directory, also after checkpoint and data have moved together, and a file that is
shared names no folder of whoever made it.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePath
from typing import Any

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
