"""Split a data set into training and held-out samples: seeded, and stratified where there are classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import WorkError, ZooError

Indices = NDArray[np.int64]


def targets_of(dataset: Any) -> list[Any]:
    """The target of every sample: from the data set's own list where it keeps one, else by reading each sample."""
    listed = listed_targets(dataset)
    return [read(dataset, index)[1] for index in range(len(dataset))] if listed is None else listed


def listed_targets(dataset: Any) -> list[Any] | None:
    """The target of every sample where the data set keeps a list of them, `targets` or `labels`."""
    listed = getattr(dataset, "targets", None)
    if listed is None:
        listed = getattr(dataset, "labels", None)
    if listed is None or len(listed) != len(dataset) or getattr(dataset, "target_transform", None):
        return None
    return list(listed.tolist() if hasattr(listed, "tolist") else listed)


def spread(strata: Sequence[Any] | None, size: int, seed: int) -> Indices:
    """A random order of `size` positions, stratified: any first part of it has nearly the true share of each class.

    `strata` has one hashable value a sample (class indices), or is None for a plain random order.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(size)
    if strata is None:
        return order
    seen: dict[Any, int] = {}
    rank = np.empty(size)
    for position in order:
        seen[strata[position]] = rank[position] = seen.get(strata[position], -1) + 1
    counts = np.array([seen[value] + 1 for value in strata])
    share = (rank + 0.5) / counts
    return order[np.argsort(share[order], kind="stable")]


def hold_out(order: Indices, *fractions: float) -> list[Indices]:
    """Positions, each sorted: those left to train on, then for each of `fractions` so large a share of `order`, taken
    from its beginning, one after the other. Every part gets one sample at least; `order` has to have as many."""
    held_out, first = [], 0
    for later, fraction in zip(range(len(fractions), 0, -1), fractions, strict=True):
        count = min(max(round(len(order) * fraction), 1), len(order) - first - later)
        held_out.append(np.sort(order[first : first + count]))
        first += count
    return [np.sort(order[first:]), *held_out]


def read(dataset: Any, index: int) -> tuple[Any, Any]:
    """Input and target as the data set gives them. Raises WorkError naming the sample where the data set raises."""
    try:
        value, target = dataset[index]
    except ZooError:
        raise
    except Exception as error:
        raise WorkError(f"the data set fails at sample {index}: {type(error).__name__}: {error}") from error
    return value, target
