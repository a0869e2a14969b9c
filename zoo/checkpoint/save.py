"""Write a model as one checkpoint that describes itself, and check that loading it gives the same model."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from zoo.checkpoint.data_folder import as_stored
from zoo.checkpoint.load import load, with_base
from zoo.checkpoint.provenance import fingerprint, suppliers
from zoo.checkpoint.versions import versions
from zoo.errors import InputError, WorkError, ZooError, listed
from zoo.formats.checkpoint_metadata import DIGITS, CheckpointMetadata, encode, read_metadata
from zoo.formats.files import Readers, WriteBehind, atomic_file
from zoo.formats.safetensors_file import encode_header, read_header
from zoo.formats.save import save_tensors, stored_bytes, tied_aliases
from zoo.formats.source import ByteRange
from zoo.formats.tensors import entry, same_bits
from zoo.given import is_given
from zoo.lint.hidden_state import hidden_differences
from zoo.model.assembly import Assembly
from zoo.model.build import rebuild
from zoo.model.load_into import state_of
from zoo.model.trace import call_with, tensors_in
from zoo.model.undisturbed import generators_kept, undisturbed

Only = Literal["all", "trainable"]


def save_checkpoint(
    assembly: Assembly,
    path: str | os.PathLike[str],
    *,
    metrics: Mapping[str, Any] | None = None,
    only: Only = "all",
    dtype: str | None = None,
    merged_from: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write `assembly` to `path`, completely or not at all.

    Args:
        metrics: what was measured; plain values that the file's metadata keeps.
        only: `trainable` leaves out every tensor that the base weights give bit for bit; `zoo.load` then needs them.
        dtype: store floating-point tensors as `float32`, `float16` or `bfloat16`.
        merged_from: the method and the checkpoints that it is the average of.

    Returns `{"path", "sha256", "bytes", "tensors", "only"}`. Raises InputError where the state dict contains what
    cannot be saved, or `only` is asked for without base weights; WorkError where the disk is full.
    """
    state = state_of(assembly.model)
    tied = tied_aliases(state)
    metadata = describe(assembly, tied=tied, only=only, metrics=metrics)
    merged = None if merged_from is None else dict(merged_from)
    prints = fingerprint(assembly, {id(tensor): _rounded(tensor, dtype) for tensor in state.values()})
    recorded = {"data": as_stored(metadata.data, path), "merged_from": merged, "fingerprint": prints}
    metadata = metadata.model_copy(update=recorded)
    kept = {name: tensor for name, tensor in state.items() if name not in tied}
    if only == "trainable":
        given = _base_values(metadata)
        kept = {name: tensor for name, tensor in kept.items() if not same_bits(tensor, given.get(name))}
    stored = {name: _cast(tensor, dtype) for name, tensor in kept.items()}
    entries = [entry(name, tensor) for name, tensor in stored.items()]
    values = {name: hashlib.sha256(stored_bytes(tensor)).hexdigest()[:DIGITS] for name, tensor in stored.items()}
    metadata = metadata.model_copy(update={"tensor_digests": values})
    sha256 = save_tensors(stored, path, encode(metadata, entries))
    size = Path(path).stat().st_size
    return {"path": str(path), "sha256": sha256, "bytes": size, "tensors": len(stored), "only": only}


def describe(
    assembly: Assembly,
    *,
    tied: Mapping[str, str] | None = None,
    only: Only = "all",
    metrics: Mapping[str, Any] | None = None,
) -> CheckpointMetadata:
    """What a checkpoint of `assembly` says about itself. Raises InputError for values that JSON cannot store."""
    try:
        return CheckpointMetadata.model_validate(
            {
                "architecture": assembly.architecture,
                "arguments": assembly.arguments,
                "operations": _operations(assembly),
                "classes": list(assembly.classes),
                "task": assembly.task,
                "preprocessing": assembly.preprocessing.as_dict(),
                "base_weights": assembly.base_weights,
                "data": assembly.data,
                "evaluation": _spec(assembly),
                "thresholds": dict(assembly.thresholds) if assembly.task == "multilabel" else {},
                "tied": dict(tied or {}),
                "frozen": list(assembly.frozen.parameters) if assembly.frozen else [],
                "only": only,
                "metrics": dict(metrics or {}),
                "versions": versions(assembly),
                "suppliers": suppliers(assembly),
            }
        )
    except ValueError as error:
        raise InputError(f"the checkpoint's metadata cannot be written: {error}") from error


def _operations(assembly: Assembly) -> list[dict[str, Any]]:
    """The operations that rebuild the model: without what a later one took back, where that gives the same structure.

    A merged adapter's checkpoint is one of the plain architecture then, which needs no plugin of adapters.
    """
    shorter = [done for index, done in enumerate(assembly.operations) if index not in assembly.obsolete]
    if len(shorter) == len(assembly.operations) or is_given(assembly.architecture):
        return assembly.operations
    description = {"architecture": assembly.architecture, "arguments": assembly.arguments, "operations": shorter}
    try:
        without = rebuild(description, device="meta").model
    except ZooError:
        return assembly.operations
    return shorter if _shapes_of(without) == _shapes_of(assembly.model) else assembly.operations


def _spec(assembly: Assembly) -> dict[str, Any] | None:
    """What to measure; what was measured belongs to the file that it was measured of."""
    kept = {key: value for key, value in (assembly.evaluation or {}).items() if key in ("loss", "metrics")}
    return kept or None


def write_metrics(
    path: str | os.PathLike[str], metrics: Mapping[str, Any], evaluation: Mapping[str, Any] | None = None
) -> None:
    """Let the checkpoint at `path` say what was measured of it; its tensors are copied byte for byte.

    `evaluation` is laid over what the file says of it. Raises InputError where there is no checkpoint, WorkError where
    the disk is full: the file stays as it was then.
    """
    file = Path(path)
    header = read_header(file)
    said = read_metadata(header.metadata, path)
    both = {**(said.evaluation or {}), **(evaluation or {})}
    changed = said.model_copy(update={"metrics": dict(metrics), "evaluation": both or None})
    text = encode_header(header.entries.values(), {**header.metadata, **encode(changed, header.entries.values())})
    span = ByteRange(file, header.data_start, file.stat().st_size - header.data_start)
    with atomic_file(file) as descriptor:
        destination = WriteBehind(descriptor)
        destination.write(text, 0)
        with Readers() as readers:
            readers.copy(span, destination, len(text))


def check_structure(assembly: Assembly) -> None:
    """Raises InputError where a model is no longer what its record rebuilds: it was changed by hand since."""
    if is_given(assembly.architecture):
        return
    again = rebuild(describe(assembly).model_dump(), device="meta").model
    mine, its = _shapes_of(assembly.model), _shapes_of(again)
    odd = [name for name in dict.fromkeys((*mine, *its)) if mine.get(name) != its.get(name)]
    if odd:
        first, was, now = odd[0], its.get(odd[0]), mine.get(odd[0])
        raise InputError(
            f"the model is no longer the {assembly.architecture} that zoo built, in {len(odd)} tensors: {first} was "
            f"{_shape(was)} and is {_shape(now)}",
            suggestion="a checkpoint rebuilds what it knows of: give the difference to zoo.build (num_classes=10), or "
            "make it a step of a recipe",
        )


def _shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of the state dict."""
    return {name: tuple(value.shape) for name, value in state_of(model).items()}


def _shape(shape: tuple[int, ...] | None) -> str:
    return "not there" if shape is None else str(list(shape))


def _base_values(metadata: CheckpointMetadata) -> dict[str, torch.Tensor]:
    with generators_kept():
        base, given = with_base(metadata.model_dump())
    return {name: value for name, value in state_of(base.model).items() if name in given}


def _cast(tensor: torch.Tensor, dtype: str | None) -> torch.Tensor:
    return tensor if dtype is None or not tensor.is_floating_point() else tensor.to(getattr(torch, dtype))


def verify_reload(
    assembly: Assembly,
    path: str | os.PathLike[str],
    inputs: torch.Tensor | None = None,
    *,
    dtype: str | None = None,
    loaded: Assembly | None = None,
) -> None:
    """Load the file at `path` and compare its tensors, and the outputs for one batch in eval mode, with the model's.

    `loaded` is what it was loaded as already.

    Both models run on the tensors of the file, so that rounding to a smaller `dtype` does not count: what still
    differs is not in the state dict. `inputs` default to two seeded images as the preprocessing makes them.
    Raises WorkError where anything differs, naming the tensors that the state dict lacks.
    """
    model = assembly.model
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    batch = (_seeded_images(assembly) if inputs is None else inputs).to(device)
    again = (loaded or load(path, device=device)).model
    mine, its = state_of(model), state_of(again)
    if changed := [name for name, tensor in mine.items() if not same_bits(_rounded(tensor, dtype), its.get(name))]:
        raise WorkError(f"{os.fspath(path)} does not load as it was saved: {listed(changed)} differ")
    with undisturbed(model, training=False, attributes=True), torch.no_grad():
        ours = list(tensors_in(call_with(model, {id(tensor): its[name] for name, tensor in mine.items()}, batch)))
        theirs = list(tensors_in(again(batch)))
    if len(ours) != len(theirs) or not all(map(_same_output, ours, theirs)):
        raise WorkError(_explain(path, model, again), suggestion="register it: self.register_buffer(name, tensor)")


def _seeded_images(assembly: Assembly) -> torch.Tensor:
    height, width = assembly.preprocessing.size
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, assembly.preprocessing.channels, height, width, generator=generator)


def _rounded(tensor: torch.Tensor, dtype: str | None) -> torch.Tensor:
    if dtype is None or not tensor.is_floating_point():
        return tensor
    return tensor.to(getattr(torch, dtype)).to(tensor.dtype)


def _same_output(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Equal on the CPU; a GPU may choose another algorithm for the same convolution."""
    if first.device.type == "cpu":
        return same_bits(first, second)
    return first.shape == second.shape and torch.allclose(first, second, rtol=1e-3, atol=1e-4, equal_nan=True)


def _explain(path: str | os.PathLike[str], model: nn.Module, again: nn.Module) -> str:
    hidden = hidden_differences(model, again)
    cause = f": {listed(hidden)} changes its outputs and is not in the state dict" if hidden else ""
    return f"the model rebuilt from {os.fspath(path)} gives other outputs than the one saved{cause}"
