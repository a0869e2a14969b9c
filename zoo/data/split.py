"""Split a data set into training and held-out samples: seeded, and stratified where there are classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import InputError, Problem, WorkError, ZooError, first_problems, listed
from zoo.isolation import failure_of
from zoo.recipe.validate import shown

Indices = NDArray[np.int64]
ROUNDED = 0.011  # how far from 1 probabilities may add up
SHOWN = 20  # samples a message lists before it only counts


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


def class_indices(dataset: Any) -> list[int]:
    """The class index of every sample. Raises InputError naming the samples whose target is none."""
    targets = targets_of(dataset)
    indices = [class_index(target) for target in targets]
    soft = [np.ndim(target) == 1 for target in targets]  # not where others are indices
    strange = [
        (sample, targets[sample])
        for sample, index in enumerate(indices)
        if index is None or (soft[sample] and not all(soft))
    ]
    if strange:
        problems = [no_class_index(sample, target) for sample, target in strange]
        raise InputError(first_problems(problems, SHOWN))
    return [index for index in indices if index is not None]


def class_index(target: Any) -> int | None:
    """A target as a class index, that of the likeliest class where it is a probability of each; None where it is
    neither a whole number, not negative, nor that."""
    if (chances := probabilities(target)) is not None:
        return int(chances.argmax())
    if getattr(target, "ndim", 0) == 0 and hasattr(target, "item"):
        target = target.item()
    whole = isinstance(target, int) or (isinstance(target, float) and target.is_integer())
    return int(target) if whole and target >= 0 else None


def probabilities(target: Any) -> NDArray[np.float64] | None:
    """A soft target, a probability of each of two or more classes, adding up to 1 exactly; None where it is none.

    Values that were rounded to two decimals, and so add up to 0.99 or 1.01, count as meant.
    """
    if isinstance(target, str) or np.ndim(target) != 1 or len(target) < 2:
        return None
    try:
        values = np.asarray(target, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    total = float(values.sum())
    inside = bool(((values >= 0) & (values <= 1)).all())  # not where one is no number
    return values / total if inside and abs(total - 1) <= ROUNDED else None


def no_class_index(sample: int, target: Any) -> Problem:
    hint = "a target is 0, 1, …; a vector is a probability of each class, in all samples, or needs another task in Data"
    if isinstance(target, str):
        hint = "a target is 0, 1, …: the position of the name in the classes of the data set's Data"
    return Problem(f"sample {sample}: its target {shown(target)} is no class index", None, hint)


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
    """Input and target as the data set gives them. Raises WorkError naming the sample where the data set raises, and
    InputError where what it gives is no pair (a dict, as the rows of many libraries are)."""
    try:
        sample = dataset[index]
    except ZooError:
        raise
    except Exception as error:
        raise WorkError(f"the data set fails at sample {index}: {failure_of(error)}") from error
    if not isinstance(sample, tuple | list) or len(sample) != 2:
        raise _no_pair(index, sample)
    value, target = sample
    return value, target


def _no_pair(index: int, sample: Any) -> InputError:
    kind = f"a {type(sample).__name__}"
    if isinstance(sample, Mapping):
        kind += f" with the keys {listed([str(key) for key in sample])}"
    elif isinstance(sample, tuple | list):
        kind += f" of {len(sample)}"
    hint = "let the data set's __getitem__ return two values, row['image'], row['label'] for instance"
    return InputError(f"sample {index} is {kind}; a sample is (image, target)", suggestion=hint)
