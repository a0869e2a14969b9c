"""What `zoo compare` promises of its tests, on simulated pairs of models; the benchmark's own functions."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/compare_power.py"


@pytest.fixture(scope="module")
def power():
    spec = importlib.util.spec_from_file_location("compare_power", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pairs_are_drawn_as_asked(power):
    a, b = power.rights(np.random.default_rng(0), 0.9, 0.92, 0.5, images=200_000)
    assert (a.mean(), b.mean()) == (pytest.approx(0.9, abs=0.003), pytest.approx(0.92, abs=0.003))
    assert power.kappa(a, b) == pytest.approx(0.5, abs=0.02)


def test_equally_good_models_are_rarely_told_apart(power):
    assert power.shown(power.accuracies, 0.0, power.OVERLAP) <= 0.05
    assert power.shown(power.errors, 0.0, power.OVERLAP, images=100) <= 0.05
    assert power.shown(power.f1s, 0.0, power.OVERLAP, pairs=20, images=100) <= 0.1


def test_two_points_on_2000_images_are_found(power):
    assert power.shown(power.accuracies, power.GAIN, power.OVERLAP) >= 0.8
    assert power.coverage(power.GAIN, power.OVERLAP) >= 0.93


def test_independent_errors_hide_two_points(power):
    """So the page says: 2,000 images are too few for two models that have nothing in common."""
    assert 0.5 < power.shown(power.accuracies, power.GAIN, 0.0) < 0.7
