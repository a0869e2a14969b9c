"""The learning-rate range test: train with a rate that grows with every step, and see where the loss falls and breaks.

Smith, 2017, "Cyclical Learning Rates for Training Neural Networks"; the end (an average loss of four times its lowest)
and both suggestions are those of fastai's `lr_find` and lightning's `LearningRateFinder`. They read the suggestions off
an average over the last 50 steps, which lags behind the loss and gives rates that are too high; here the losses on both
sides of a step smooth it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from zoo.training.callbacks import Listener
from zoo.training.trainer import Trainer

if TYPE_CHECKING:
    from zoo.training.job import Job
    from zoo.training.state import StateFolder

AVERAGE = 0.9  # decay of the average loss that says when to end
BROKEN = 4.0  # times its lowest
CLEARLY = 5.0  # times the median distance of single losses from the smoothed ones: what counts as falling
WIDTH = 0.03  # of all steps: the standard deviation of the window that smooths the loss


class Point(NamedTuple):
    """The loss of one optimizer step, before it was taken with this learning rate."""

    lr: float
    loss: float


class Sweep(Trainer):
    """The loop of a train step, with a learning rate from `start` to `end`, each step's a constant factor above the
    last one's; groups keep their shares of it. Nothing is measured or saved, and the model is left as it ends.

    `job.options` are those of the train step; warm-up, schedule, averages, callbacks and compiling are left out.
    """

    def __init__(
        self, job: Job, state: StateFolder, listener: Listener, *, start: float, end: float, steps: int
    ) -> None:
        left_out: dict[str, Any] = {
            "scheduler": None,
            "warmup": 0,
            "ema": None,
            "callbacks": [],
            "unfreeze_gradually": None,
            "keep": "last",
        }
        length = {"lr": start, "epochs": None, "max_steps": steps, "early_stopping": None, "compile": False}
        options = job.options.model_copy(update=left_out | length)
        super().__init__(replace(job, options=options, moments=_copied(job.moments)), state, listener)
        self.lr, self.factor = start, (end / start) ** (1 / max(steps - 1, 1))
        self.points: list[Point] = []
        self.ended = ""
        self._average, self._lowest = 0.0, math.inf

    def sweep(self) -> list[Point]:
        """Train until the last rate, or until the loss breaks; `ended` says then how it did."""
        try:
            while self.progress.steps < self.steps:
                self._train_epoch(time.monotonic())
                self.progress.epoch, self.progress.batch = self.progress.epoch + 1, 0
        finally:
            self.job.train.close()
            self.accelerator.unwrap_model(self.network, keep_fp32_wrapper=False)
        return self.points

    def _step(self) -> None:
        options = self.job.options
        last = self.progress.batch + 1
        samples = self._samples(self.progress.batch - self.progress.batch % options.accumulate, last)
        loss = float(self.accelerator.reduce(self.loss_sum)) / samples
        self.loss_sum.zero_()
        if self._breaks(loss):
            self.steps = self.progress.steps  # the loop ends behind this batch
            return
        super()._step()
        self.lr *= self.factor
        for group in self.optimizer.param_groups:
            group["lr"] *= self.factor

    def _breaks(self, loss: float) -> bool:
        self._average = AVERAGE * self._average + (1 - AVERAGE) * loss
        average = self._average / (1 - AVERAGE ** (len(self.points) + 1))
        self._lowest = min(self._lowest, average)
        if not math.isfinite(loss):
            self.ended = f"the loss was not finite at {self.lr:.1e}"
        elif average > BROKEN * self._lowest:
            self.ended = f"the loss was {BROKEN:g} times its lowest at {self.lr:.1e}"
        else:
            self.points.append(Point(self.lr, loss))
        return bool(self.ended)

    def _look(self, *, everywhere: bool = False) -> float:
        return 0.0

    def save(self, *, epoch_end: bool = False) -> None:
        """Nothing of a sweep is gone on with."""


def _copied(moments: Mapping[Tensor, dict[str, Any]]) -> dict[Tensor, dict[str, Any]]:
    """What an optimizer may change without changing what the train step goes on with."""
    return {
        parameter: {key: value.clone() if isinstance(value, Tensor) else value for key, value in state.items()}
        for parameter, state in moments.items()
    }


def smoothed(points: Sequence[Point]) -> NDArray[np.float64]:
    """The losses, each averaged with its neighbours on both sides (a Gaussian window)."""
    losses = np.array([point.loss for point in points], dtype=np.float64)
    return np.asarray(gaussian_filter1d(losses, max(WIDTH * len(losses), 2.0), mode="nearest"))


def suggestions(points: Sequence[Point]) -> dict[str, float]:
    """Learning rates by how they were chosen, to two digits: `steepest`, where the smoothed loss falls fastest with the
    logarithm of the rate, in front of its lowest; `minimum`, a tenth of the rate where it is lowest.

    Empty where the loss never fell by more than it varies from step to step.
    """
    if len(points) < 3:
        return {}
    losses = smoothed(points)
    lowest = int(losses.argmin())
    falling = np.gradient(losses)[:lowest]
    spread = np.median(np.abs([point.loss for point in points] - losses))  # the jumps behind the end do not count
    if losses[: lowest + 1].max() - losses[lowest] <= CLEARLY * spread or falling.min() >= 0:
        return {}
    return {"steepest": _short(points[int(falling.argmin())].lr), "minimum": _short(points[lowest].lr / 10)}


def _short(rate: float) -> float:
    return float(f"{rate:.1e}")
