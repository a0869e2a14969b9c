"""The learning-rate range test: where it ends, and what it reads off the curve."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from zoo.training.callbacks import Listener
from zoo.training.lr_sweep import Point, Sweep, smoothed, suggestions


def curve(steps: int = 100) -> list[Point]:
    """A loss that falls fastest at 1e-3, is lowest at 1e-1 and rises after it, with noise."""
    rates = np.logspace(-6, 0, steps)
    noise = np.random.default_rng(0).normal(0, 0.02, steps)
    falls = 2.3 / (1 + np.exp(2.5 * (np.log10(rates) + 3)))
    rises = np.exp(4 * (np.log10(rates) + 0.7))
    return [Point(*pair) for pair in zip(rates.tolist(), (falls + rises + noise).tolist(), strict=True)]


def test_suggestions():
    found = suggestions(curve())
    assert 3e-4 < found["steepest"] < 3e-3
    assert 1e-3 < found["minimum"] < 1e-2
    assert all(value == float(f"{value:.1e}") for value in found.values())


@pytest.mark.parametrize(
    "losses", [[], [1.0], [1.0, 1.0, 1.0, 1.0], list(range(30))], ids=["none", "one", "flat", "rising"]
)
def test_where_the_loss_does_not_fall_nothing_is_suggested(losses):
    assert suggestions([Point(10.0**-place, float(loss)) for place, loss in enumerate(losses)]) == {}


def test_smoothing_lags_behind_nothing():
    points = [Point(1.0, float(place)) for place in range(100)]
    assert np.allclose(smoothed(points)[20:80], range(20, 80))


def test_rates_grow_by_a_factor_and_groups_keep_their_shares(make_trainer):
    job = make_trainer(lr_scale={r"^4\.": 10.0}, scheduler="cosine", ema=0.9, warmup=3).job
    seen = []

    class Watched(Sweep):
        def _step(self):
            seen.append([group["lr"] for group in self.optimizer.param_groups])
            super()._step()

    sweep = Watched(job, None, Listener(), start=1e-6, end=1e-2, steps=25)
    points = sweep.sweep()
    assert [point.lr for point in points] == pytest.approx(np.logspace(-6, -2, 25).tolist())
    assert seen[7] == pytest.approx([points[7].lr, 10 * points[7].lr][: len(seen[7])], rel=1e-6) or len(seen[7]) > 2
    assert sweep.ended == ""
    assert job.train.closed


def test_it_ends_where_the_loss_breaks(make_trainer):
    job = make_trainer().job
    sweep = Sweep(job, None, Listener(), start=1e-4, end=1e6, steps=60)
    points = sweep.sweep()
    assert 10 < len(points) < 60
    assert sweep.ended.startswith("the loss was ")
    assert all(math.isfinite(point.loss) for point in points)


def test_a_step_of_accumulated_batches_has_one_loss(make_trainer):
    """The mean over all its samples, whatever the batches."""

    def smooth() -> nn.Module:
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))

    one = Sweep(make_trainer(smooth(), batch_size=20).job, None, Listener(), start=1e-3, end=1, steps=20)
    two = Sweep(make_trainer(smooth(), batch_size=10, accumulate=2).job, None, Listener(), start=1e-3, end=1, steps=20)
    assert [p.loss for p in one.sweep()] == pytest.approx([p.loss for p in two.sweep()], rel=1e-4)
