"""What a zoo checkpoint says about itself: JSON under `zoo` in the safetensors header, read strictly.

Nothing in it is code or a path to code: it names registered components and gives them plain values.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zoo import registry
from zoo.errors import InputError, Problem
from zoo.given import is_given
from zoo.model.assembly import Assembly

FORMAT = 1
"""Raised when a file could be misread by an older zoo."""

KEY = "zoo"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Operation(_Part):
    """One structural step: a surgery by its full name, with every argument written out."""

    surgery: str
    arguments: dict[str, Any]


class Preprocessing(_Part):
    """As `zoo.api.Preprocessing`."""

    size: Annotated[list[int], Field(min_length=2, max_length=2)]
    mean: list[float]
    std: list[float]
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"]
    crop_fraction: float
    channels: int


class BaseWeights(_Part):
    """The weights that were loaded first.

    `name` is what the user wrote, `location` what it stood for, `remap` the rules they were renamed by, and `ignore`
    the module paths that were not loaded into.
    """

    name: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    location: str | None = None
    remap: list[dict[str, Any]] | None = None
    ignore: list[str] = []
    license: str | None = None
    source: str | None = None


class CheckpointMetadata(_Part):
    """Everything a checkpoint says about itself.

    `tied` maps an alias to the name its tensor is stored under; `only` is `trainable` where the file contains just what
    differs from the base weights. `merged_from` names the method and the checkpoints (`name`, `sha256`, `weight`) that
    it is the average of. `data` is the data section that it was trained on, with the seed of the split.
    """

    format: int = FORMAT
    architecture: str
    arguments: dict[str, Any] = {}
    operations: list[Operation] = []
    classes: list[str] = []
    task: str = "classification"
    preprocessing: Preprocessing | None = None
    base_weights: BaseWeights | None = None
    data: dict[str, Any] | None = None
    tied: dict[str, str] = {}
    frozen: list[str] = []
    only: Literal["all", "trainable"] = "all"
    metrics: dict[str, Any] = {}
    versions: dict[str, str] = {}
    converted_from: dict[str, Any] | None = None
    merged_from: dict[str, Any] | None = None


def versions(assembly: Assembly) -> dict[str, str]:
    """The distributions behind the architecture and the surgeries, those they need directly, zoo and torch."""
    named = set()
    if not is_given(assembly.architecture):
        named.add(registry.resolve(assembly.architecture, "architectures").distribution)
    named |= {registry.resolve(record["surgery"], "surgeries").distribution for record in assembly.operations}
    needed = {_name(line) for distribution in named - {"zoo-kit"} for line in _requirements(distribution)}
    found = {name: version(name) for name in sorted(named | needed | {"zoo-kit", "torch"})}
    return {name: text for name, text in found.items() if text is not None}


def version(distribution: str) -> str | None:
    """The installed version, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _requirements(distribution: str) -> list[str]:
    try:
        lines = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [line for line in lines if "extra ==" not in line]


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


def encode(metadata: CheckpointMetadata) -> dict[str, str]:
    """The header's `__metadata__`. Raises InputError where an argument is not a plain value."""
    try:
        text = json.dumps(metadata.model_dump(exclude_defaults=True) | {"format": metadata.format}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"the checkpoint's metadata cannot be written: {error}") from error
    return {"format": "pt", KEY: text}


def read_metadata(header: Mapping[str, str], path: str | os.PathLike[str]) -> CheckpointMetadata:
    """The metadata of the file at `path`, from its header's `__metadata__`.

    Raises InputError where there is none (another tool wrote the file), a newer zoo wrote it, or it is not what zoo
    writes.
    """
    if KEY not in header:
        raise InputError(
            f"{path} is no zoo checkpoint: it does not say which architecture it belongs to",
            suggestion="name it in a recipe (model.weights), or make one: zoo convert FILE NEW --to ARCHITECTURE",
        )
    try:
        table = json.loads(header[KEY])
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: its zoo metadata is not JSON ({error})") from error
    version = table.get("format") if isinstance(table, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise InputError(f"{path}: its zoo metadata names no format version")
    if version > FORMAT:
        raise InputError(
            f"{path} was written by a newer zoo (format {version}; this one reads up to {FORMAT})",
            suggestion="pip install --upgrade zoo-kit",
        )
    try:
        return CheckpointMetadata.model_validate_json(header[KEY])
    except ValidationError as error:
        rows = error.errors(include_url=False)
        raise InputError(
            [Problem(f"{path}: zoo metadata: {_place(row['loc'])}: {row['msg']}") for row in rows]
        ) from error


def _place(location: tuple[int | str, ...]) -> str:
    """`operations[0].surgery`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".") or "metadata"
