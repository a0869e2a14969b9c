"""What counts as which label: of a target, of a probability, and the thresholds of a multilabel network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from zoo.errors import any_of, did_you_mean

THRESHOLD = 0.5  # from which probability on a label counts as there, where nothing else is said


def output_names(names: Sequence[str], count: int, task: str) -> tuple[str, ...]:
    """What `count` outputs are called: `names` where there is one for each, since names of others are worse than none;
    else the class indices, and of a regression `value`, or `value 1`, `value 2`, …."""
    if len(names) == count:
        return tuple(names)
    if task != "regression":
        return tuple(map(str, range(count)))
    return ("value",) if count == 1 else tuple(f"value {place}" for place in range(1, count + 1))


def class_of(targets: Tensor) -> Tensor:
    """Class indices, int64 [n]; of soft targets [n, k] the likeliest classes."""
    return targets.argmax(-1) if targets.is_floating_point() else targets


def said(targets: Tensor) -> Tensor:
    """Which labels targets [n, k] of presences from 0 to 1 say are there, bool."""
    return targets >= THRESHOLD


def present(scores: Tensor, thresholds: Sequence[float] = ()) -> Tensor:
    """Which labels are there by their probabilities [n, k]: bool, those that reach their threshold, or 0.5 without."""
    return scores >= (scores.new_tensor(thresholds) if len(thresholds) else THRESHOLD)


def in_order(thresholds: Mapping[str, float], names: Sequence[str]) -> tuple[float, ...]:
    """The threshold of each label; 0.5 of one that has none."""
    return tuple(thresholds.get(name, THRESHOLD) for name in names)


def best_threshold(scores: Tensor, there: Tensor, beta: float = 1.0) -> float | None:
    """The threshold with the highest F-beta of one label: `scores` are its probabilities [n], `there` says of which
    samples it is true, bool [n]. None where it is true of none.

    Each threshold lies midway between two neighbouring scores, so that the last digits of a score decide nothing. Of
    several with the same value it is the one nearest 0.5, the lower one of two. In terms of counts F-beta is
    (1 + b) tp / ((1 + b) tp + b fn + fp), b being beta squared (van Rijsbergen, 1979).
    """
    positives = int(there.sum())
    if not positives:
        return None
    order = scores.double().argsort(descending=True, stable=True)
    ranked, hits = scores.double()[order], there[order].cumsum(0).double()
    found = torch.arange(1, len(ranked) + 1, dtype=torch.float64)
    values = (1 + beta**2) * hits / (beta**2 * positives + found)
    below = torch.cat([ranked[1:], ranked.new_zeros(1)])
    cuts = ((ranked + below) / 2).float().double()
    cuts = cuts.where(cuts > below, ranked)  # of neighbouring float32 values
    cut = ranked > below  # equal scores are on one side
    cut[-1] = True
    tied = cuts[cut & (values >= values[cut].max() - 1e-12)]
    return float(tied[(tied - THRESHOLD).abs().argmin()])


def hint_for(name: str, classes: Sequence[str]) -> str:
    """What to write for a class that is not there."""
    there = f"there is {any_of(classes[:5])}{', …' if len(classes) > 5 else ''}"
    return did_you_mean(name, classes) or there
