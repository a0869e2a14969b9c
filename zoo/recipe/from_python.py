"""A recipe as Python code has it: a file or a dictionary, with objects in the place of what it would name."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.errors import InputError
from zoo.recipe.document import Document, FlagLocation, Path
from zoo.recipe.options import DataOptions
from zoo.recipe.yaml_reader import parse, read_text

NAME = "recipe"  # what a recipe without a file is called; relative paths in it start in the current directory


def read_document(recipe: str | os.PathLike[str] | Mapping[str, Any]) -> Document:
    """The document of a recipe's file, or of a dictionary with the same keys.

    Raises InputError where there is no file, it is not YAML, or a dictionary holds what YAML does not. In a dictionary
    the place of a mistake is its key.
    """
    if isinstance(recipe, Mapping):
        document = Document(NAME)
        document.data = _plain(document, recipe, ())
        if document.problems:
            raise InputError(document.problems)
        return document
    path = os.fspath(recipe)
    return parse(read_text(path), path)


def _plain(document: Document, value: Any, path: Path) -> Any:
    """The value as a YAML file would have it, its place noted."""
    document.keys[path] = document.values[path] = FlagLocation(_written(path))
    if isinstance(value, Mapping):
        return {str(key): _plain(document, inner, (*path, str(key))) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(document, inner, (*path, index)) for index, inner in enumerate(value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if value is not None and not isinstance(value, str | bool | int | float):
        message = f"a recipe has plain values, not {type(value).__name__}"
        document.add(path, message, "objects are handed over beside it: model=, data=, transform=")
        return None
    return value


def _written(path: Path) -> str:
    """`steps[1].train.lr`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".") or NAME


def put_objects(document: Document, *, model: str | None, data: str | None, transform: str | None) -> None:
    """Let the recipe name the objects that were handed over beside it, by their names.

    A model takes the place of the whole `model` section: it comes with its parameters. Data take the place of the
    source and of its own arguments; how samples become batches stays. A transform takes that of `augmentation`.
    """
    if not isinstance(document.data, dict):
        return
    if model is not None:
        document.replace(("model",), {"architecture": model}, FlagLocation("model"))
    if data is not None:
        written = document.get(("data",))
        options = written if isinstance(written, dict) else {}
        kept = {key: value for key, value in options.items() if key in DataOptions.model_fields and key != "arguments"}
        document.data["data"] = {**kept, "source": data}
        document.keys[("data", "source")] = document.values[("data", "source")] = FlagLocation("data")
    if transform is not None:
        if isinstance(source := document.get(("data",)), str):
            document.wrap(("data",), "source")
        if isinstance(source, str | dict):
            document.replace(("data", "augmentation"), transform, FlagLocation("transform"))
        else:
            document.add((), "a transform needs data to be applied to", "write data: SOURCE, or hand over data=")


def as_overrides(overrides: Sequence[str] | Mapping[str, Any]) -> Sequence[str]:
    """`KEY=VALUE` texts; a mapping of dotted keys to values is written out."""
    if isinstance(overrides, Mapping):
        return [f"{key}={json.dumps(value, default=os.fspath)}" for key, value in overrides.items()]
    return [overrides] if isinstance(overrides, str) else overrides
