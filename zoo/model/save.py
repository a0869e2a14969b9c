"""Writes an assembly as one checkpoint that describes itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from zoo.checkpoint.filling import state_of
from zoo.checkpoint.metadata import CheckpointMetadata, encode
from zoo.checkpoint.save import save_tensors, tied_aliases
from zoo.checkpoint.tensors import same_bits
from zoo.errors import InputError
from zoo.model.assembly import Assembly
from zoo.model.base import with_base
from zoo.model.versions import versions

Only = Literal["all", "trainable"]


def save_checkpoint(
    assembly: Assembly,
    path: str | os.PathLike[str],
    *,
    metrics: Mapping[str, Any] | None = None,
    only: Only = "all",
    dtype: str | None = None,
) -> dict[str, Any]:
    """Write `assembly` to `path`, whole or not at all.

    Args:
        metrics: what was measured; plain values that the file's metadata keeps.
        only: `trainable` leaves out every tensor that the base weights give bit for bit; `zoo.load` then needs them.
        dtype: store floating-point tensors as `float32`, `float16` or `bfloat16`.

    Returns `{"path", "sha256", "bytes", "tensors", "only"}`. Raises InputError where the state dict holds what cannot
    be saved, or `only` is asked for without base weights; WorkError where the disk is full.
    """
    state = state_of(assembly.model)
    tied = tied_aliases(state)
    metadata = describe(assembly, tied=tied, only=only, metrics=metrics)
    kept = {name: tensor for name, tensor in state.items() if name not in tied}
    if only == "trainable":
        given = _base_values(metadata)
        kept = {name: tensor for name, tensor in kept.items() if not same_bits(tensor, given.get(name))}
    stored = {name: _cast(tensor, dtype) for name, tensor in kept.items()}
    sha256 = save_tensors(stored, path, encode(metadata))
    size = Path(path).stat().st_size
    return {"path": str(path), "sha256": sha256, "bytes": size, "tensors": len(stored), "only": only}


def describe(
    assembly: Assembly,
    *,
    tied: Mapping[str, str] | None = None,
    only: Only = "all",
    metrics: Mapping[str, Any] | None = None,
) -> CheckpointMetadata:
    """What a checkpoint of `assembly` says about itself. Raises InputError for values that JSON does not hold."""
    try:
        return CheckpointMetadata.model_validate(
            {
                "architecture": assembly.architecture,
                "arguments": assembly.arguments,
                "operations": assembly.operations,
                "classes": list(assembly.classes),
                "task": assembly.task,
                "preprocessing": assembly.preprocessing.as_dict(),
                "base_weights": assembly.base_weights,
                "data": assembly.data,
                "tied": dict(tied or {}),
                "frozen": list(assembly.frozen.parameters) if assembly.frozen else [],
                "only": only,
                "metrics": dict(metrics or {}),
                "versions": versions(assembly),
            }
        )
    except ValueError as error:
        raise InputError(f"the checkpoint's metadata cannot be written: {error}") from error


def _base_values(metadata: CheckpointMetadata) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        base, given = with_base(metadata.model_dump())
    return {name: value for name, value in state_of(base.model).items() if name in given}


def _cast(tensor: torch.Tensor, dtype: str | None) -> torch.Tensor:
    return tensor if dtype is None or not tensor.is_floating_point() else tensor.to(getattr(torch, dtype))
