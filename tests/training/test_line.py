"""Which point of the line between two networks is the best."""

import math

import pytest

from zoo.training.choosing import Criterion
from zoo.training.line import best_point


@pytest.mark.parametrize(
    ("values", "higher", "best"),
    [
        ([0.5, 0.7, 0.7, 0.6], True, 1),  # of equal ones the nearest to the start
        ([0.5, 0.5, 0.5], True, 0),
        ([0.5, 0.3, 0.2], False, 2),
        ([math.nan, 0.1, math.nan], True, 1),
        ([math.nan, math.nan], True, 0),  # nothing is defined: the start
    ],
)
def test_best_point(values, higher, best):
    points = [{"alpha": alpha, "metrics": {"f1": value}} for alpha, value in enumerate(values)]
    assert best_point(points, Criterion("f1", higher))["alpha"] == best
