"""Which epoch is best, and when no better one is to be expected: decided on the epochs' records alone.

Nothing but the history counts, so that a resumed run decides as an uninterrupted one does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.recipe.options import Named
from zoo.training.library_metrics import CLASS
from zoo.training.metrics import DEFAULTS, Metrics, names_of

LOSS = "loss"  # of validation; every record has it


@dataclass(frozen=True)
class Criterion:
    """A validation metric, or the loss, by which epochs are compared."""

    metric: str
    higher_is_better: bool

    @classmethod
    def of(cls, metrics: Metrics, name: str | None) -> Criterion:
        """The one of this name, the first metric without a name; lower losses and higher accuracies are better."""
        name = name or metrics.main
        return cls(name, name != LOSS and metrics.metrics[name].higher_is_better)

    def value(self, record: Mapping[str, Any]) -> float:
        """What the record of an epoch says; NaN where its samples do not define it."""
        return float(record["validation"][self.metric])

    def better(self, value: float, than: float | None, *, by: float = 0.0) -> bool:
        """Whether a value is better than another by more than `by`; an undefined one is better than none."""
        if math.isnan(value):
            return False
        if than is None:
            return True
        return value > than + by if self.higher_is_better else value < than - by


@dataclass(frozen=True)
class Patience:
    """Training ends once `epochs` in a row were not better than the best by more than `min_delta`."""

    criterion: Criterion
    epochs: int
    min_delta: float = 0.0

    def waited(self, history: Sequence[Mapping[str, Any]]) -> tuple[int, int | None]:
        """Epochs since the last one that was better by enough, and that epoch (from 1); None where there is none."""
        best: float | None = None
        found: int | None = None
        for number, record in enumerate(history, 1):
            value = self.criterion.value(record)
            if self.criterion.better(value, best, by=self.min_delta):
                best, found = value, number
        return len(history) - (found or 0), found

    def is_over(self, history: Sequence[Mapping[str, Any]]) -> bool:
        return self.waited(history)[0] >= self.epochs


def with_chosen(metrics: Sequence[Named] | None, task: str, chosen: Sequence[str | None]) -> list[Named] | None:
    """The metrics to measure: those asked for, or the task's, and behind them what is `chosen` by."""
    known = list(metrics or DEFAULTS[task])
    more = [metric_of(name) for name in dict.fromkeys(chosen) if name and name not in (LOSS, *names_of(known))]
    return [*known, *more] if more or metrics else None


def metric_of(name: str) -> Named:
    """The metric that a report calls so, where it is not among the `metrics`: `f1(class=cat)` is one of a class."""
    found = re.fullmatch(rf"([\w.]+)\({CLASS}=(.+)\)", name)
    return {found[1]: {CLASS: found[2]}} if found else name
