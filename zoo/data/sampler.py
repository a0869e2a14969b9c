"""Which samples an epoch draws where not each comes once: `sampler: balanced`, and what an epoch becomes with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from zoo.errors import InputError

Sampler = Literal["balanced"]
Chances = NDArray[np.float64]
SHOWN = 3  # rarest and most frequent classes that are spoken of


def balanced_chances(targets: Tensor, task: str) -> Chances:
    """The probability of each sample to be the next one drawn, [n], with which all classes are equally likely.

    `targets` are class indices [n] or a probability of each class [n, k], whose likeliest one counts. Raises
    InputError for other tasks: a sample of several labels that is drawn for one of them brings the others along.
    """
    if task != "classification":
        why = {"multilabel": "a sample has several labels, and drawing it for one draws the others, too"}
        hint = "class_weights: balanced evens out labels" if task == "multilabel" else "remove sampler"
        message = f"sampler: balanced: {why.get(task, f'a {task} has no classes')}"
        raise InputError(message, suggestion=hint)
    classes = (targets.argmax(-1) if targets.ndim == 2 else targets).numpy()
    counts = np.bincount(classes)
    chances: Chances = 1 / counts[classes]
    chances /= chances.sum()
    return chances


def epoch_of(counts: Sequence[float], classes: Sequence[str]) -> str:
    """What an epoch of balanced draws is: `1,000 draws with replacement, about 500 of each of 2 classes: each of the 10
    samples of 'rare' about 50 times, each of the 990 of 'usual' about 0.5 times`."""
    known = sorted((round(count), name) for count, name in zip(counts, classes, strict=True) if round(count))
    samples = sum(count for count, _ in known)
    each = samples / len(known)
    ends = known if len(known) <= 2 * SHOWN else [known[0], known[-1]]
    times = [f"each of the {count:,} samples of {name!r} about {each / count:.2g} times" for count, name in ends]
    return (
        f"an epoch is {samples:,} draws with replacement, about {each:,.0f} of each of {len(known)} classes: "
        + ", ".join(times)
    )
