"""Operations that compute new values: position embeddings of another grid, other input channels, other classes.

Typed on shapes like every operation; torch is imported when one is applied.

Learned positions are resampled as images are: a grid of h x w positions, each a vector, is an image of h x w pixels
with as many channels, and is interpolated bicubically to another size. Tokens in front of the grid (class,
distillation, registers) have no place in it and are kept. A table of relative position biases is such an image over
offsets: two positions of a window of h x w are at most h - 1 rows and w - 1 columns apart, in either direction, which
makes (2h - 1) x (2w - 1) offsets, with one channel a head.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.formats.dtypes import FLOATING
from zoo.remap.expression import Expression, Operation, ShapeError

if TYPE_CHECKING:
    import torch

    from zoo.remap.expression import Array


class _Computed(Operation):
    """An operation on one floating-point tensor, worked out in float32 (float64 stays float64)."""

    def apply(self, arrays: Sequence[Array], inputs: Sequence[Expression]) -> Array:
        import torch

        from zoo.formats.tensors import to_array, to_tensor

        tensor = to_tensor(arrays[0], inputs[0].dtype)
        wide = tensor if tensor.dtype == torch.float64 else tensor.float()
        return to_array(self.compute(wide).to(tensor.dtype))

    @abstractmethod
    def compute(self, tensor: torch.Tensor) -> torch.Tensor:
        """The result, in the dtype of `tensor`."""

    def check_floating(self, value: Expression) -> None:
        if value.dtype not in FLOATING:
            raise ShapeError(f"its dtype is {value.dtype}, and only floating-point values can be computed with")


@dataclass(frozen=True)
class ResamplePositions(_Computed):
    """A learned grid of positions under another size; `prefix` tokens in front (class, distillation, registers) stay.

    Takes [1, tokens, width], [tokens, width] and [1, height, width, channels]. The interpolation is that of timm's
    `resample_abs_pos_embed`: bicubic and antialiased, in float32.
    """

    from_grid: tuple[int, int]
    to_grid: tuple[int, int]
    prefix: int = 0
    interpolation: str = "bicubic"
    antialias: bool = True

    def infer(self, inputs: Sequence[Expression]) -> tuple[str, tuple[int, ...]]:
        self.check_floating(inputs[0])
        shape = inputs[0].shape
        if len(shape) == 4:
            if shape[1:3] != self.from_grid or shape[0] != 1 or self.prefix:
                raise ShapeError(
                    f"the shape {list(shape)} is not [1, {self.from_grid[0]}, {self.from_grid[1]}, channels]"
                )
            return inputs[0].dtype, (1, *self.to_grid, shape[3])
        tokens = self.prefix + math.prod(self.from_grid)
        if len(shape) not in (2, 3) or shape[-2] != tokens or (len(shape) == 3 and shape[0] != 1):
            raise ShapeError(
                f"the shape {list(shape)} does not contain {self.prefix} prefix tokens and a grid of "
                f"{self.from_grid[0]}x{self.from_grid[1]}, which make {tokens}"
            )
        return inputs[0].dtype, (*shape[:-2], self.prefix + math.prod(self.to_grid), shape[-1])

    def compute(self, tensor: torch.Tensor) -> torch.Tensor:
        import torch

        if tensor.ndim == 4:
            return self._resample(tensor)
        prefix, positions = tensor[..., : self.prefix, :], tensor[..., self.prefix :, :]
        resampled = self._resample(positions.reshape(1, *self.from_grid, tensor.shape[-1]))
        return torch.cat([prefix, resampled.reshape(*tensor.shape[:-2], -1, tensor.shape[-1])], dim=-2)

    def _resample(self, positions: torch.Tensor) -> torch.Tensor:
        """[1, h, w, c] to [1, H, W, c]."""
        return _interpolate(positions.permute(0, 3, 1, 2), self.to_grid, self.interpolation, self.antialias).permute(
            0, 2, 3, 1
        )


@dataclass(frozen=True)
class ResampleBias(_Computed):
    """A table of relative position biases for another attention window: one row an offset, (2h-1)(2w-1) of them.

    Takes Swin's [offsets, heads], with `extra` rows at the end that stay (BEiT's class token has 3), and
    [heads, 2h-1, 2w-1]. Bicubic without antialiasing, as in Swin's own `load_pretrained`.
    """

    from_window: tuple[int, int]
    to_window: tuple[int, int]
    extra: int = 0

    def infer(self, inputs: Sequence[Expression]) -> tuple[str, tuple[int, ...]]:
        self.check_floating(inputs[0])
        shape, before, after = inputs[0].shape, offsets(self.from_window), offsets(self.to_window)
        if len(shape) == 3 and shape[1:] == before and not self.extra:
            return inputs[0].dtype, (shape[0], *after)
        if len(shape) == 2 and shape[0] == math.prod(before) + self.extra:
            return inputs[0].dtype, (math.prod(after) + self.extra, shape[1])
        raise ShapeError(
            f"the shape {list(shape)} does not contain the {math.prod(before)} offsets of a window of "
            f"{self.from_window[0]}x{self.from_window[1]}" + (f" and {self.extra} more rows" if self.extra else "")
        )

    def compute(self, tensor: torch.Tensor) -> torch.Tensor:
        import torch

        after = offsets(self.to_window)
        if tensor.ndim == 3:
            return _interpolate(tensor[None], after, "bicubic", False)[0]
        table, extra = tensor[: len(tensor) - self.extra], tensor[len(tensor) - self.extra :]
        grid = table.T.reshape(1, -1, *offsets(self.from_window))
        return torch.cat([_interpolate(grid, after, "bicubic", False)[0].flatten(1).T, extra])


def offsets(window: tuple[int, int]) -> tuple[int, int]:
    """How many offsets there are between two positions of a window, along each axis."""
    return 2 * window[0] - 1, 2 * window[1] - 1


def _interpolate(grid: torch.Tensor, size: tuple[int, int], mode: str, antialias: bool) -> torch.Tensor:
    from torch.nn import functional as F

    if tuple(grid.shape[-2:]) == size:
        return grid  # interpolation onto the same grid changes nothing but the last bits
    align = False if mode in ("bilinear", "bicubic") else None
    return F.interpolate(grid, size=size, mode=mode, align_corners=align, antialias=antialias and align is False)


@dataclass(frozen=True)
class AdaptInput(_Computed):
    """A first convolution's kernel [out, in, …] for another number of input channels.

    New channel j is old channel j mod n (or the sum of old channels j, j + m, … where there are fewer new ones), each
    old channel divided by its number of copies, so that an image whose channels are all equal gives the same output.
    """

    channels: int

    def infer(self, inputs: Sequence[Expression]) -> tuple[str, tuple[int, ...]]:
        self.check_floating(inputs[0])
        shape = inputs[0].shape
        if len(shape) < 3:
            raise ShapeError(f"the shape {list(shape)} is no convolution's kernel [out, in, …]")
        return inputs[0].dtype, (shape[0], self.channels, *shape[2:])

    def compute(self, tensor: torch.Tensor) -> torch.Tensor:
        return shared_out(tensor, self.channels)


def shared_out(kernel: torch.Tensor, channels: int) -> torch.Tensor:
    """A kernel [out, in, …] as [out, channels, …]: see `AdaptInput`."""
    import torch

    old = kernel.shape[1]
    # Row i says where old channel i goes; every row sums to one, which keeps the sum over input channels.
    shares = torch.zeros(old, channels, dtype=kernel.dtype, device=kernel.device)
    for position in range(max(old, channels)):
        shares[position % old, position % channels] = 1
    shares /= shares.sum(dim=1, keepdim=True)
    return torch.einsum("oi...,ij->oj...", kernel, shares)


@dataclass(frozen=True)
class AdaptClasses(_Computed):
    """Rows of a classifier by class: row k of the result is row `rows[k]`, or a new row where that is -1.

    New rows hold the mean of all old rows (`mean`: no class is preferred) or zeros (`zero`).
    """

    rows: tuple[int, ...]
    new: str = "mean"

    def infer(self, inputs: Sequence[Expression]) -> tuple[str, tuple[int, ...]]:
        self.check_floating(inputs[0])
        shape = inputs[0].shape
        if not shape or max(self.rows, default=-1) >= shape[0]:
            raise ShapeError(f"the shape {list(shape)} has no row {max(self.rows)}")
        return inputs[0].dtype, (len(self.rows), *shape[1:])

    def compute(self, tensor: torch.Tensor) -> torch.Tensor:
        import torch

        fresh = tensor.mean(dim=0) if self.new == "mean" else torch.zeros_like(tensor[0])
        return torch.stack([fresh if row < 0 else tensor[row] for row in self.rows])

    def __str__(self) -> str:
        return f"adaptclasses({len(self.rows)} rows, {self.rows.count(-1)} of them new)"
