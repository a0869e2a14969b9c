"""Writes tensors from memory into one safetensors file, atomically; equal values and metadata give equal bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import torch

from zoo.errors import InputError, Problem
from zoo.formats.entry import Entry
from zoo.formats.files import WriteBehind, atomic_file
from zoo.formats.safetensors_file import encode_header, layout, tied_names
from zoo.formats.tensors import NAMES


def tied_aliases(tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Name -> the first name of the very same tensor: one storage, offset, shape, strides and dtype.

    Views that only overlap are different tensors. Empty and meta tensors share nothing.
    """
    first: dict[tuple[object, ...], str] = {}
    aliases: dict[str, str] = {}
    for name, tensor in tensors.items():
        if tensor.is_meta or not tensor.numel() or tensor.layout != torch.strided:
            continue
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        canonical = first.setdefault(place, name)
        if canonical != name:
            aliases[name] = canonical
    return aliases


def save_tensors(
    tensors: Mapping[str, torch.Tensor], destination: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> str:
    """Write `tensors` to `destination`, completely or not at all, and return the file's sha256.

    A tensor that has several names is written once, under the first. Where `metadata` does not say which
    names belong to it (zoo's own table or safetensors' `alias: name`), `alias: name` is added, so that none is lost.
    Tensors elsewhere than on the CPU are fetched one at a time. The same values and metadata give the same bytes.

    Raises InputError for tensors that the format cannot store and places that cannot be written, WorkError where the
    disk is full.
    """
    aliases = tied_aliases(tensors)
    kept = {name: tensor for name, tensor in tensors.items() if name not in aliases}
    _check(kept)
    recorded = tied_names(metadata or {})
    unrecorded = {alias: name for alias, name in aliases.items() if recorded.get(alias) != name}
    placed = layout(Entry(name, NAMES[tensor.dtype], tuple(tensor.shape)) for name, tensor in kept.items())
    header = encode_header(placed, {**(metadata or {}), **unrecorded})
    digest = hashlib.sha256(header)
    with atomic_file(Path(destination)) as descriptor:
        file = WriteBehind(descriptor)
        file.write(header, 0)
        for entry in placed:
            data = stored_bytes(kept[entry.name])
            file.write(data, len(header) + entry.offset)
            digest.update(data)
    return digest.hexdigest()


def _check(tensors: Mapping[str, torch.Tensor]) -> None:
    problems = [
        Problem(f"tensor {name!r} cannot be saved: {reason}")
        for name, tensor in tensors.items()
        if (reason := _obstacle(tensor)) is not None
    ]
    if problems:
        raise InputError(problems)


def _obstacle(tensor: torch.Tensor) -> str | None:
    if tensor.is_meta:
        return "it is on the meta device and has no values"
    if tensor.layout != torch.strided or tensor.is_quantized:
        return "safetensors stores dense tensors only; use .to_dense() or .dequantize()"
    if tensor.dtype not in NAMES:
        return f"safetensors has no {tensor.dtype}"
    return None


def stored_bytes(tensor: torch.Tensor) -> memoryview:
    """What a file contains of a tensor: the values in C order, little-endian, on the CPU."""
    plain = tensor.detach().to("cpu").resolve_conj().resolve_neg().contiguous()
    return plain.reshape(-1).view(torch.uint8).numpy().data
