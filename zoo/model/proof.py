"""Prove that what was frozen did not move: hashes before, hashes after, and what differs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from zoo.model.freezing import FrozenPart


@dataclass(frozen=True)
class Proof:
    """What comparing hashes found: how many `tensors` were compared and the names of those that `moved`.

    `digest` is one sha256 over all names and hashes before: a line for a report.
    """

    tensors: int
    moved: tuple[str, ...]
    digest: str

    @property
    def holds(self) -> bool:
        return not self.moved

    def as_dict(self) -> dict[str, Any]:
        return {"tensors": self.tensors, "moved": list(self.moved), "digest": self.digest}


def hashes(model: nn.Module, part: FrozenPart) -> dict[str, str]:
    """sha256 of the raw bytes of every frozen parameter and buffer; one tensor at a time visits the CPU."""
    tensors: dict[str, Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: _sha256(tensors[name]) for name in (*part.parameters, *part.buffers) if name in tensors}


def prove(before: Mapping[str, str], after: Mapping[str, str]) -> Proof:
    """Compare two results of `hashes`; a tensor that is on one side only has moved."""
    names = sorted({*before, *after})
    moved = tuple(name for name in names if before.get(name) != after.get(name))
    lines = "".join(f"{name} {before[name]}\n" for name in sorted(before))
    return Proof(len(names), moved, hashlib.sha256(lines.encode()).hexdigest())


def _sha256(tensor: Tensor) -> str:
    flat = tensor.detach().contiguous().reshape(-1).cpu()
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).hexdigest()
