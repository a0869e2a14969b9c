"""The data section that a model keeps, its paths found from the folder in which the run was started."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from zoo.recipe.options import DataOptions


def found_from(stored: dict[str, Any]) -> DataOptions:
    """The options under `options`, each relative path among the arguments made one that leads there from `folder`.

    A text counts as a path where something is there; what is not there stays as it was written.
    """
    options, folder = DataOptions.model_validate(stored["options"]), stored.get("folder")
    if not isinstance(folder, str):
        return options
    arguments = {key: _found(value, Path(folder)) for key, value in options.arguments.items()}
    return options.model_copy(update={"arguments": arguments})


def _found(value: Any, folder: Path) -> Any:
    if not isinstance(value, str) or not value or "\0" in value or Path(value).is_absolute() or value.startswith("~"):
        return value
    there = os.path.normpath(folder / value)
    return there if os.path.exists(there) else value
