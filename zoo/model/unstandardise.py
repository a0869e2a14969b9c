"""The module behind a regression's head that gives values back in the unit of the data."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class Unstandardise(nn.Module):
    """`x * std + mean`, each output by its own: what stands in front of it gives standardised values.

    [b, k] or [b, k, …] to float32 of the same shape, whatever precision `x` is in: a bfloat16 would keep two digits of
    252,431. `mean` and `std` have k values, or one for all. They are constants, not in the state dict, so that no cast
    of a checkpoint rounds them.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError(f"{len(self.mean)} means do not fit {len(self.std)} standard deviations")

    def forward(self, x: Tensor) -> Tensor:
        if len(self.mean) == 1:
            return x.float() * self.std[0] + self.mean[0]
        values = x.float().movedim(1, -1)  # no code on its shape, which a trace would not follow
        return (values * values.new_tensor(self.std) + values.new_tensor(self.mean)).movedim(-1, 1)

    def standardised(self, values: Tensor) -> Tensor:
        """The way back: (values - mean) / std, of targets or outputs [b, k]."""
        values = values.float()
        return (values - values.new_tensor(self.mean)) / values.new_tensor(self.std)

    def extra_repr(self) -> str:
        return f"mean={list(self.mean)}, std={list(self.std)}"


FAR = 30.0  # from 0, or in scale: a fresh head, whose values are near 0, learns such targets slowly


def are_far(mean: Sequence[float], std: Sequence[float]) -> bool:
    """Whether targets of these means and spreads, an output each, are far from what a fresh head gives."""
    return any(abs(mine) > FAR or not 1 / FAR <= spread <= FAR for mine, spread in zip(mean, std, strict=True))


def unstandardising(model: nn.Module) -> Unstandardise | None:
    """The module by which the model gives its values in the unit of the data; None where it has none."""
    return next((module for module in model.modules() if isinstance(module, Unstandardise)), None)
