"""What passes from the trunk to the rest: telling per-sample tensors from constants and sizes.

The fixed part of a graph hands more to the rest than feature maps: batch sizes, shapes, position tables. Two runs with
different batch sizes tell them apart, so that only what belongs to a sample is kept per sample.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx


class UnsplittableError(Exception):
    """Why a model cannot be split; the engine then trains the plain way and says so."""


@dataclass(frozen=True)
class Sample:
    """The `index`-th tensor the trunk gives; dimension 0 holds `rows` rows a sample (windows, heads)."""

    index: int
    rows: int


@dataclass(frozen=True)
class Scaled:
    """An integer that is `factor` times the batch size."""

    factor: int


@dataclass
class Boundary:
    """The values at the cut: a template for each crossing node, its samples counted, its constants kept."""

    sizes: tuple[int, int]
    samples: list[tuple[int, tuple[Any, ...]]] = field(default_factory=list)  # rows, path of indices to the leaf
    constants: list[Tensor] = field(default_factory=list)
    templates: dict[fx.Node, Any] = field(default_factory=dict)

    def add(self, node: fx.Node, first: Any, second: Any, position: int) -> None:
        """Record what `node` gave in the two runs. Raises UnsplittableError for what belongs to no single sample."""
        self.templates[node] = self._template(first, second, (position,), node.name)

    def _template(self, first: Any, second: Any, path: tuple[Any, ...], name: str) -> Any:
        if isinstance(first, Tensor):
            return self._tensor(first, second, path, name)
        if isinstance(first, (tuple, list)):
            if len(first) != len(second):
                raise UnsplittableError(f"{name} has a length that depends on the batch")
            pairs = enumerate(zip(first, second, strict=True))
            return tuple(self._template(a, b, (*path, i), name) for i, (a, b) in pairs)
        if first == second:
            return first
        factor, remainder = divmod(first, self.sizes[0]) if isinstance(first, int) else (0, 1)
        if remainder or factor * self.sizes[1] != second:
            raise UnsplittableError(f"{name} depends on the batch in a way that is not per sample")
        return Scaled(factor)

    def _tensor(self, first: Tensor, second: Tensor, path: tuple[Any, ...], name: str) -> Any:
        if first.shape == second.shape and torch.equal(first, second):
            self.constants.append(first.detach().clone())
            return self.constants[-1]
        rows, remainder = divmod(first.shape[0], self.sizes[0]) if first.ndim else (0, 1)
        expected = (rows * self.sizes[1], *first.shape[1:])
        if remainder or second.shape != expected:
            raise UnsplittableError(f"{name} of shape {list(first.shape)} mixes the samples of a batch")
        self.samples.append((rows, path))
        return Sample(len(self.samples) - 1, rows)
