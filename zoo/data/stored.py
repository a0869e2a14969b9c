"""Where a checkpoint's own data lies: its paths count from a folder that is named as seen from the checkpoint.

So they are found from any current directory, also after checkpoint and data have moved together, and a file that is
shared names no folder of whoever made it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from zoo.recipe.options import DataOptions


def folder_beside(run: str | os.PathLike[str]) -> dict[str, str]:
    """The current directory as seen from the folder of a run, as a checkpoint keeps it; empty on another drive."""
    try:
        return {"folder": Path(os.path.relpath(os.getcwd(), os.path.realpath(run))).as_posix()}
    except ValueError:
        return {}


def found_from(checkpoint: str | os.PathLike[str], stored: dict[str, Any]) -> DataOptions:
    """The data section that the checkpoint at a path keeps, each relative path in it made one that leads there.

    A text counts as a path where something is there; what is not there stays as it was written.
    """
    options = DataOptions.model_validate(stored["options"])
    if not isinstance(seen := stored.get("folder"), str) or not os.path.isfile(checkpoint):
        return options
    folder = Path(os.path.realpath(checkpoint)).parent / seen
    arguments = {key: _found(value, folder) for key, value in options.arguments.items()}
    return options.model_copy(update={"arguments": arguments})


def _found(value: Any, folder: Path) -> Any:
    if not isinstance(value, str) or not value or "\0" in value or Path(value).is_absolute() or value.startswith("~"):
        return value
    there = os.path.normpath(folder / value)
    return there if os.path.exists(there) else value
