"""95 % intervals of what was measured on a sample of all images: Wilson's for shares, the bootstrap for the rest.

They say how far the number would move with other images drawn from where these came from. They do not say how far it
would move with another seed or another training set.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]

Z = 1.959963984540054  # the normal distribution's 97.5 % point
RESAMPLES, FEWEST, SEED = 1000, 40, 0
DRAWN = 50_000_000  # values drawn for one mean at most: 1,000 resamples of 50,000 samples
WORK = 20_000_000  # outputs that a metric is computed on again at most: 200 resamples of 1,000 samples and 100 classes
CHUNK = 4_000_000


def wilson(share: float, samples: int) -> Interval:
    """Wilson's score interval of a share found in `samples` (Wilson, 1927; Brown, Cai and DasGupta, 2001)."""
    centre = share + Z * Z / (2 * samples)
    half = Z * math.sqrt(share * (1 - share) / samples + Z * Z / (4 * samples * samples))
    scale = 1 + Z * Z / samples
    return max((centre - half) / scale, 0.0), min((centre + half) / scale, 1.0)


def shares(hits: int, guessed: int, support: int) -> dict[str, Any]:
    """Precision, recall and F1 from counts. F1 = 2J / (1 + J), where J = hits / (hits + both kinds of errors) is a
    share with Wilson's interval, which the same formula takes to F1's."""
    either = guessed + support - hits
    jaccard, between = _share(hits, either)
    f1 = None if jaccard is None else _f1(jaccard)
    interval = between and [_f1(value) for value in between]
    precision, precision_interval = _share(hits, guessed)
    recall, recall_interval = _share(hits, support)
    return {
        "precision": precision,
        "precision_interval": precision_interval,
        "recall": recall,
        "recall_interval": recall_interval,
        "f1": f1,
        "f1_interval": interval,
    }


def _share(hits: int, of: int) -> tuple[float | None, list[float] | None]:
    return (hits / of, list(wilson(hits / of, of))) if of else (None, None)


def _f1(jaccard: float) -> float:
    return 2 * jaccard / (1 + jaccard)


def bootstrap_ratio(values: NDArray[np.float64], weights: NDArray[np.float64]) -> Interval | None:
    """The interval of sum(values) / sum(weights) over samples drawn again with replacement; the mean where all weights
    are 1. None where no resample gives a number."""
    samples = len(values)
    count = max(min(RESAMPLES, DRAWN // samples), 2 * FEWEST)
    generator = np.random.default_rng(SEED)
    found = np.empty(count)
    step = max(CHUNK // samples, 1)
    for first in range(0, count, step):
        drawn = generator.integers(0, samples, (min(step, count - first), samples))
        with np.errstate(divide="ignore", invalid="ignore"):
            found[first : first + step] = values[drawn].sum(1) / weights[drawn].sum(1)
    return _middle(found)


def bootstrap(compute: Callable[[NDArray[np.int64]], float], samples: int, outputs: int) -> Interval | None:
    """The interval of `compute(positions)` over samples drawn again with replacement.

    `outputs` is the number of values a sample has: what is too large to be computed at least 40 times has no interval.
    None there, and where no resample gives a number.
    """
    count = min(RESAMPLES // 5, WORK // max(samples * outputs, 1))
    if count < FEWEST:
        return None
    generator = np.random.default_rng(SEED)
    return _middle(np.array([compute(generator.integers(0, samples, samples)) for _ in range(count)]))


def _middle(found: NDArray[np.float64]) -> Interval | None:
    found = found[np.isfinite(found)]
    if not len(found):
        return None
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)
