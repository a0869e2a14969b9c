"""Intervals: Wilson's equal to scipy's, the bootstrap where theory knows the answer, and what is too large for it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from zoo.training.intervals import WORK, bootstrap, bootstrap_ratio, wilson


@pytest.mark.parametrize(("right", "samples"), [(0, 1), (0, 20), (357, 360), (360, 360), (500, 2000)])
def test_wilsons_interval_is_scipys(right, samples):
    expected = binomtest(right, samples).proportion_ci(method="wilson")
    assert wilson(right / samples, samples) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_bootstrap_of_a_mean_is_as_wide_as_theory_says():
    values = np.random.default_rng(1).exponential(size=400)
    low, high = bootstrap_ratio(values, np.ones(400))
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert bootstrap_ratio(values, np.ones(400)) == (low, high)  # the same on every machine
    assert bootstrap_ratio(values, np.full(400, 1 / 400)) == pytest.approx((low * 400, high * 400))  # of a sum


def test_a_weighted_mean_is_resampled_with_its_weights():
    values, weights = np.array([2.0, 8.0] * 50), np.array([1.0, 4.0] * 50)
    assert bootstrap_ratio(values, weights) == (2.0, 2.0)
    assert bootstrap_ratio(np.zeros(3), np.zeros(3)) is None


def test_the_bootstrap_of_anything():
    values = np.random.default_rng(2).normal(size=300)
    low, high = bootstrap(lambda drawn: float(np.median(values[drawn])), 300, 1)
    assert low <= np.median(values) <= high
    assert high - low == pytest.approx(2 * 1.96 * 1.253 / math.sqrt(300), rel=0.35)
    assert bootstrap(lambda drawn: math.nan, 10, 1) is None
    assert bootstrap(lambda drawn: pytest.fail("computed"), WORK, 1) is None
