"""Paired tests: whether two models' numbers on the same samples differ by more than chance, and by how much.

Both models answer every sample, so what they have in common (hard images, wrong labels) cancels out: only where they
part counts. A difference is shown where a test that assumes nothing about it rejects "none" at 5 %:

- accuracy: McNemar's exact test, a binomial one on the samples that one model gets right and the other wrong;
- means over samples (losses, errors): the signs of the differences, flipped at random;
- any other metric: the models' answers, exchanged at random sample by sample.

The interval is Tango's score interval for accuracy (Tango 1998, Statistics in Medicine 17:891) and otherwise the
percentiles of a paired bootstrap. Where the test shows no difference the interval is widened to contain 0: it never
excludes what the test allows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Booleans = NDArray[np.bool_]
    Floats = NDArray[np.float64]

LEVEL = 0.05
RESAMPLES = 9_999  # of means, which are cheap
METRIC_RESAMPLES = 499  # of metrics that are computed anew each time
_ELEMENTS = 2_000_000  # drawn at once: bounds the memory that resampling takes


@dataclass(frozen=True)
class Difference:
    """B minus A, with a 95 % interval and a p-value of "there is none"."""

    a: float
    b: float
    low: float
    high: float
    p_value: float
    test: str

    @property
    def value(self) -> float:
        return self.b - self.a

    @property
    def shown(self) -> bool:
        """Whether chance alone would make a difference like this in at most one of twenty comparisons."""
        return self.p_value <= LEVEL

    def as_dict(self) -> dict[str, Any]:
        return {
            "a": self.a,
            "b": self.b,
            "difference": self.value,
            "interval": [self.low, self.high],
            "p_value": self.p_value,
            "test": self.test,
            "shown": self.shown,
        }


def accuracy_difference(right_a: Booleans, right_b: Booleans) -> Difference:
    """The difference of two accuracies, from which samples [n] each model got right."""
    gained, lost = int((right_b & ~right_a).sum()), int((right_a & ~right_b).sum())
    low, high = score_interval(gained, lost, len(right_a))
    means = float(right_a.mean()), float(right_b.mean())
    return _coherent(*means, low, high, mcnemar(gained, lost), "exact McNemar")


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided p-value for `gained` samples that only B got right and `lost` that only A did."""
    from scipy.stats import binomtest

    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def score_interval(gained: int, lost: int, samples: int) -> tuple[float, float]:
    """Tango's 95 % score interval for the difference of two paired proportions."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    bound, difference = float(norm.ppf(1 - LEVEL / 2)), (gained - lost) / samples

    def score(assumed: float) -> float:
        variance = samples * (2 * _discordant(gained, lost, samples, assumed) + assumed * (1 - assumed))
        distance = samples * (difference - assumed)
        if variance <= 0:
            return math.copysign(math.inf, distance) if distance else 0.0
        return distance / math.sqrt(variance)

    edge = 1 - 1e-12
    low = -1.0 if score(-edge) <= bound else brentq(lambda at: score(at) - bound, -edge, difference)
    high = 1.0 if score(edge) >= -bound else brentq(lambda at: score(at) + bound, difference, edge)
    return float(low), float(high)


def _discordant(gained: int, lost: int, samples: int, difference: float) -> float:
    """The likeliest probability that only A is right, if the true difference is `difference`."""
    linear = (2 * samples - gained + lost) * difference - gained - lost
    constant = -lost * difference * (1 - difference)
    root = math.sqrt(max(linear**2 - 8 * samples * constant, 0.0))
    return max((root - linear) / (4 * samples), 0.0)


def mean_difference(values_a: Floats, values_b: Floats, *, resamples: int = RESAMPLES) -> Difference:
    """The difference of two means over the same samples, from both models' values [n]."""
    import numpy as np

    change = values_b - values_a
    found = float(change.mean())
    flipped = np.concatenate([(draw.integers(0, 2, size) * 2 - 1) @ change for draw, size in _draws(change, resamples)])
    drawn = np.concatenate(
        [change[draw.integers(0, len(change), size)].mean(1) for draw, size in _draws(change, resamples)]
    )
    p_value = _share_as_large(flipped / len(change), found)
    low, high = np.quantile(drawn, [LEVEL / 2, 1 - LEVEL / 2])
    means = float(values_a.mean()), float(values_b.mean())
    return _coherent(*means, float(low), float(high), p_value, "sign-flip permutation")


def _draws(values: Floats, resamples: int) -> Iterator[tuple[Any, tuple[int, int]]]:
    """A generator and the shape of what to draw from it, in parts that fit into memory."""
    import numpy as np

    draw, samples = np.random.default_rng(0), len(values)
    rows = max(_ELEMENTS // samples, 1)
    for first in range(0, resamples, rows):
        yield draw, (min(rows, resamples - first), samples)


def metric_difference(
    metric: Callable[[Any, Any], float],
    outputs_a: Any,
    outputs_b: Any,
    targets: Any,
    *,
    resamples: int | None = None,
) -> Difference:
    """The difference of any metric of outputs [n, …] and targets [n, …], arrays of one library."""
    import numpy as np

    resamples = resamples or METRIC_RESAMPLES
    draw, samples = np.random.default_rng(0), len(targets)
    a, b = metric(outputs_a, targets), metric(outputs_b, targets)
    if not math.isfinite(b - a):
        return Difference(a, b, math.nan, math.nan, 1.0, "undefined")
    exchanged, drawn = np.empty(resamples), np.empty(resamples)
    for index in range(resamples):
        one, other = _exchanged(outputs_a, outputs_b, draw.random(samples) < 0.5)
        exchanged[index] = metric(other, targets) - metric(one, targets)
        chosen = draw.integers(0, samples, samples)
        drawn[index] = metric(outputs_b[chosen], targets[chosen]) - metric(outputs_a[chosen], targets[chosen])
    low, high = np.nanquantile(drawn, [LEVEL / 2, 1 - LEVEL / 2])
    return _coherent(a, b, float(low), float(high), _share_as_large(exchanged, b - a), "paired permutation")


def _exchanged(outputs_a: Any, outputs_b: Any, where: Booleans) -> tuple[Any, Any]:
    one, other = outputs_a + 0, outputs_b + 0
    one[where], other[where] = outputs_b[where], outputs_a[where]
    return one, other


def _share_as_large(null: Floats, found: float) -> float:
    """The share of differences by chance that are at least as large as the one found, which counts as one of them."""
    import numpy as np

    null = null[np.isfinite(null)]
    slack = 1e-12 * max(1.0, abs(found))  # sums in another order
    return float((np.count_nonzero(np.abs(null) >= abs(found) - slack) + 1) / (len(null) + 1))


def _coherent(a: float, b: float, low: float, high: float, p_value: float, test: str) -> Difference:
    """With an interval that contains the difference, and 0 where the test shows none."""
    low, high = min(low, b - a), max(high, b - a)
    if p_value > LEVEL:
        low, high = min(low, 0.0), max(high, 0.0)
    return Difference(a, b, low, high, p_value, test)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests, adjusted so that all of them together are wrong in at most 5 % (Holm 1979)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
