"""What a zoo checkpoint says about itself: JSON under `zoo` in the safetensors header, read strictly.

Nothing in it is code or a path to code: it names registered components and gives them plain values.

`digests` ties what decides about the model together: the architecture with its arguments, the operations, the classes
with the task, the preprocessing, and the names, dtypes and shapes of the tensors. A file that was edited says which of
these is no longer what zoo wrote. They are no signature: who edits a file on purpose can compute them anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from zoo import contracts
from zoo.errors import InputError, Problem, listed
from zoo.formats.entry import Entry
from zoo.formats.source import Source

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

    size: Annotated[list[Annotated[int, Field(ge=1, le=16_384)]], Field(min_length=2, max_length=2)]
    mean: list[Annotated[float, Field(allow_inf_nan=False)]]
    std: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]]
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"]
    crop_fraction: Annotated[float, Field(ge=0.01, le=4)]
    channels: Annotated[int, Field(ge=1, le=4_096)]

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, self.channels):
            counts = f"{len(self.mean)} means and {len(self.std)} standard deviations"
            raise ValueError(f"{counts} do not fit {self.channels} channels")
        return self

    def as_contract(self) -> contracts.Preprocessing:
        """The same as components know it."""
        return contracts.Preprocessing.from_dict(self.model_dump())


class BaseWeights(_Part):
    """The weights that were loaded first.

    `name` is what the user wrote, `arguments` those of a weights component, `location` what it stood for, `remap` the
    rules they were renamed by, and `ignore` the module paths that were not loaded into.
    """

    name: str
    arguments: dict[str, Any] = {}
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    location: str | None = None
    remap: list[dict[str, Any]] | None = None
    ignore: list[str] = []
    license: str | None = None
    source: str | None = None

    @model_serializer(mode="wrap")
    def _plain(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without arguments where there are none: digests of files written before there were any stay what they are."""
        found: dict[str, Any] = fields(self)
        if not self.arguments:
            found.pop("arguments", None)
        return found


class CheckpointMetadata(_Part):
    """Everything a checkpoint says about itself.

    `tied` maps an alias to the name its tensor is stored under; `only` is `trainable` where the file contains just what
    differs from the base weights. `thresholds` are the probabilities from which on labels count as there, by label.
    `data` is the data section that it was trained on, with the seed of the split. `metrics` are those of the file
    itself, on the part of the data that `evaluation` names beside what was measured, their number of samples and their
    95 % intervals.
    `merged_from` names the method and the checkpoints (`name`, `sha256`, `weight`) that it is the average of.
    `suppliers` are the distributions that its components come from, `fingerprint` what it gave for a fixed input.
    `digests` are the sha256 of the parts in `PARTS` and `RECORDS`, `tensor_digests` the beginning of each tensor's.
    """

    format: int = FORMAT
    architecture: str
    arguments: dict[str, Any] = {}
    operations: Annotated[list[Operation], Field(max_length=10_000)] = []
    classes: list[str] = []
    task: str = "classification"
    preprocessing: Preprocessing | None = None
    base_weights: BaseWeights | None = None
    data: dict[str, Any] | None = None
    evaluation: dict[str, Any] | None = None
    thresholds: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}
    tied: dict[str, str] = {}
    frozen: list[str] = []
    only: Literal["all", "trainable"] = "all"
    metrics: dict[str, Any] = {}
    versions: dict[str, str] = {}
    suppliers: dict[str, str] = {}
    fingerprint: dict[str, Any] | None = None
    converted_from: dict[str, Any] | None = None
    merged_from: dict[str, Any] | None = None
    digests: dict[str, str] = {}
    tensor_digests: dict[str, str] = {}

    @field_validator("data")
    @classmethod
    def _is_a_data_section(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        options, seed = (value or {}).get("options", {}), (value or {}).get("seed", 0)
        if not isinstance(options, dict) or not isinstance(options.get("arguments", {}), dict):
            raise ValueError("its options are no data section")
        if not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise ValueError("its seed is none")
        return value


PARTS = {
    "architecture": ("architecture", "arguments"),
    "operations": ("operations",),
    "classes": ("classes", "task"),
    "preprocessing": ("preprocessing",),
}
"""What decides about the model: the name of each part, and its fields. `tensors` is the part beside them."""
RECORDS = {
    "values": ("tensor_digests",),
    "frozen": ("frozen",),
    "base weights": ("base_weights", "only", "converted_from"),
    "data": ("data",),
    "measurements": ("metrics", "evaluation"),
    "versions": ("versions", "suppliers"),
    "fingerprint": ("fingerprint",),
}
"""What is recorded beside: a file with other values there still loads, and `zoo verify` says so."""
DIGITS = 16  # of a tensor's sha256: enough to recognise it


def digests_of(values: Mapping[str, Any], entries: Iterable[Entry]) -> dict[str, str]:
    """The sha256 of every part: of the fields in `PARTS` and `RECORDS`, and of the tensors' names, dtypes and shapes
    (`tensors`).

    `values` are all fields of a checkpoint's metadata, `entries` the tensors of the file, each under its one name.
    """
    parts = {**PARTS, **RECORDS}
    if values.get("thresholds"):  # files without any keep the digests that they had before there were some
        parts["classes"] = (*PARTS["classes"], "thresholds")
    found = {part: json_digest([values[name] for name in fields]) for part, fields in parts.items()}
    tensors = sorted([entry.name, entry.dtype, list(entry.shape)] for entry in entries)
    return found | {"tensors": json_digest([tensors, values["tied"]])}


def json_digest(value: Any) -> str:
    """The sha256 of a plain value, in whatever order its keys stand."""
    plain = json.loads(json.dumps(value))  # tuples are lists and keys are texts, as they are once they are read
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def encode(metadata: CheckpointMetadata, entries: Iterable[Entry]) -> dict[str, str]:
    """The header's `__metadata__` of a file with these tensors, each under its one name.

    Raises InputError where an argument is not a plain value.
    """
    try:
        sealed = metadata.model_copy(update={"digests": digests_of(metadata.model_dump(), entries)})
        text = json.dumps(sealed.model_dump(exclude_defaults=True) | {"format": metadata.format}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"the checkpoint's metadata cannot be written: {error}") from error
    return {"format": "pt", KEY: text}


def edited_parts(metadata: CheckpointMetadata, entries: Iterable[Entry]) -> list[str]:
    """The parts that decide about the model and are not what zoo wrote, of a checkpoint with these tensors."""
    found = digests_of(metadata.model_dump(), entries)
    return [part for part in (*PARTS, "tensors") if metadata.digests.get(part) != found[part]]


def check_unedited(parts: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Raises InputError, naming the parts of the file at `path` that are not what zoo wrote, where there are any."""
    if parts:
        message = f"{path} was edited after zoo wrote it: its digests do not agree with its {listed(parts)}"
        hint = "take the file from where it was made; what one says of itself is changed by zoo.save(model, PATH)"
        raise InputError(message, suggestion=hint)


def record_of(source: Source) -> CheckpointMetadata | None:
    """What an opened file says about itself where it is a zoo checkpoint, else None.

    Raises InputError where it was edited, or is not what zoo writes. A description without digests, which another
    program may have written, is taken as it is.
    """
    if KEY not in source.metadata:
        return None
    metadata = read_metadata(source.metadata, source.location)
    if metadata.digests:
        check_unedited(edited_parts(metadata, own_entries(source)), source.location)
    return metadata


def own_entries(source: Source) -> Iterator[Entry]:
    """The tensors of an opened file, each under its one name."""
    return (entry for name, entry in source.entries.items() if name not in source.aliases)


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
