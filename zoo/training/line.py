"""The straight line between two states of one network, measured on the validation data.

WiSE-FT (Wortsman et al., 2022, "Robust fine-tuning of zero-shot models"): between a network and its fine-tuned self the
loss seldom rises, and points on the way are often better than both ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from zoo.model.averaging import average
from zoo.training.choosing import Criterion
from zoo.training.job import fill
from zoo.training.trainer import Trainer

Point = dict[str, Any]


class Line:
    """From the tensors called `start` to those that `trainer` has trained: `put` any point of it into the network.

    Floating-point tensors, running statistics among them, are (1 - alpha) * start + alpha * trained, computed in
    float64; others are those of the nearer end. At 0 and 1 they are the ends' own, bit for bit.
    """

    def __init__(self, trainer: Trainer, start: Mapping[str, Tensor]) -> None:
        self.trainer, self.start = trainer, start
        self.live = {name: trainer.unfrozen[name] for name in start}
        self.end = {name: tensor.detach().cpu().clone() for name, tensor in self.live.items()}

    def put(self, alpha: float) -> None:
        fill(self.live, average([self.start, self.end], (1 - alpha, alpha), self.start))

    def measured(self, alphas: Iterable[float]) -> list[Point]:
        """`{"alpha": a, "metrics": {"loss": …, metric: …}}` of each point, as the finished file will be measured."""
        points = []
        for alpha in alphas:
            self.put(alpha)
            points.append({"alpha": alpha, "metrics": self.trainer.measure_exactly()})
        return points


def best_point(points: Sequence[Point], criterion: Criterion) -> Point:
    """The point whose metric is best, of equal ones the first: with rising alphas the one nearest to the start."""
    best, found = points[0], None
    for point in points:
        value = criterion.value({"validation": point["metrics"]})
        if criterion.better(value, found):
            best, found = point, value
    return best
