"""Initializers beyond torch.nn.init: a function of one's own, and adding to what is there."""

from __future__ import annotations

from torch import Tensor


def uniform_keep_large(tensor: Tensor, *, bound: float = 10.0, threshold: float = 5.0) -> None:
    """Uniform between -bound and bound; values nearer to zero than `threshold` become zero."""
    tensor.uniform_(-bound, bound)
    tensor.mul_(tensor.abs() >= threshold)


def shift(tensor: Tensor, *, by: float = 1.0) -> None:
    """Add `by` to every value."""
    tensor.add_(by)
