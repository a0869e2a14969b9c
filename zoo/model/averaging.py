"""Weighted averages of a network's tensors: between a network and its fine-tuned self, or of several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

ALPHAS = tuple(step / 10 for step in range(11))
"""The points of the line between two networks at which WiSE-FT (Wortsman et al., 2022) looks for the best one."""


def average(
    states: Sequence[Mapping[str, Tensor]], weights: Sequence[float], like: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The weighted sum of each floating-point tensor; of others that of the member with the largest weight.

    A row that is NaN in a member is one that it does not have: the others' weights are then made to sum to one.
    """
    heaviest = max(range(len(states)), key=lambda place: weights[place])
    made: dict[str, Tensor] = {}
    for name, wanted in like.items():
        if not wanted.is_floating_point():
            made[name] = states[heaviest][name]
            continue
        total = torch.zeros(wanted.shape, dtype=torch.float64)
        for state, weight in zip(states, weights, strict=True):
            if weight:
                total += weight * state[name].double()
        made[name] = _without_gaps(total, [state[name] for state in states], weights).to(wanted.dtype)
    return made


def _without_gaps(total: Tensor, values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The sum, with elements that some member lacks taken from the members that have them."""
    if not total.isnan().any():
        return total
    stacked = torch.stack([value.double() for value in values])
    shares = torch.tensor(weights, dtype=torch.float64).reshape(-1, *[1] * total.ndim) * ~stacked.isnan()
    shares = torch.where(shares.sum(0) > 0, shares, (~stacked.isnan()).double())
    filled = (stacked.nan_to_num() * shares).sum(0) / shares.sum(0)
    return torch.where(total.isnan(), filled, total)


@contextmanager
def averaging_statistics(norms: Iterable[_BatchNorm]) -> Iterator[None]:
    """Inside, batch norms take the plain average over all batches as their statistics; behind it they evaluate."""
    before = [(norm, norm.momentum) for norm in norms]
    for norm, _ in before:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    try:
        yield
    finally:
        for norm, momentum in before:
            norm.momentum = momentum
            norm.eval()
