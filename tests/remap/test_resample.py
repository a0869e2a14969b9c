"""Operations that compute new values, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo.remap.expression import Expression, ShapeError, evaluate, make
from zoo.remap.resample import AdaptClasses, AdaptInput, ResampleBias, ResamplePositions, offsets


def made(operation, array):
    value = Expression("F32", array.shape, "x")
    return evaluate(make(operation, value), {"x": array}.__getitem__)


def test_adapt_input_keeps_the_sum_over_channels():
    kernel = np.arange(24, dtype="f4").reshape(2, 3, 2, 2)
    for channels in (1, 2, 3, 4, 7):
        adapted = made(AdaptInput(channels), kernel)
        assert adapted.shape == (2, channels, 2, 2)
        np.testing.assert_allclose(adapted.sum(1), kernel.sum(1), rtol=1e-6)
    assert np.array_equal(made(AdaptInput(3), kernel), kernel)
    np.testing.assert_allclose(made(AdaptInput(4), kernel)[:, [0, 3]], kernel[:, [0, 0]] / 2)


def test_adapt_classes_picks_rows_and_fills_new_ones():
    rows = np.array([[1, 2], [3, 4], [5, 9]], "f4")
    assert made(AdaptClasses((2, -1, 0)), rows).tolist() == [[5, 9], [3, 5], [1, 2]]
    assert made(AdaptClasses((-1, 1), new="zero"), rows).tolist() == [[0, 0], [3, 4]]
    with pytest.raises(ShapeError, match="has no row 3"):
        made(AdaptClasses((3,)), rows)


def test_positions_keep_their_prefix_and_a_constant_grid():
    grid = np.full((1, 1 + 4, 3), 2, "f4")
    grid[0, 0] = (7, 8, 9)
    resampled = made(ResamplePositions((2, 2), (3, 5), prefix=1), grid)
    assert resampled.shape == (1, 1 + 15, 3)
    assert resampled[0, 0].tolist() == [7, 8, 9]
    np.testing.assert_allclose(resampled[0, 1:], 2, rtol=1e-5)


def test_nearest_repeats_positions_row_by_row():
    grid = np.arange(4, dtype="f4").reshape(1, 4, 1)
    operation = ResamplePositions((2, 2), (4, 2), interpolation="nearest", antialias=False)
    assert made(operation, grid)[0, :, 0].tolist() == [0, 1, 0, 1, 2, 3, 2, 3]


def test_a_grid_of_its_own_size_stays_bit_for_bit():
    grid = np.random.default_rng(0).random((1, 2, 3, 4), "f4")
    assert np.array_equal(made(ResamplePositions((2, 3), (2, 3)), grid), grid)


def test_bias_tables_keep_their_extra_rows():
    rows = 9 + 3
    table = np.concatenate([np.full((9, 2), 4, "f4"), np.arange(6, dtype="f4").reshape(3, 2)])
    resampled = made(ResampleBias((2, 2), (3, 4), extra=3), table)
    assert table.shape == (rows, 2)
    assert resampled.shape == (5 * 7 + 3, 2)
    np.testing.assert_allclose(resampled[:35], 4, rtol=1e-5)
    assert np.array_equal(resampled[35:], table[9:])
    assert offsets((3, 4)) == (5, 7)


@pytest.mark.parametrize(
    ("operation", "shape"),
    [
        (AdaptInput(3), (4, 4)),
        (ResamplePositions((2, 2), (3, 3)), (1, 5, 8)),
        (ResamplePositions((2, 2), (3, 3)), (2, 4, 8)),
        (ResampleBias((2, 2), (3, 3)), (8, 2)),
    ],
)
def test_shapes_that_do_not_fit(operation, shape):
    with pytest.raises(ShapeError, match="the shape"):
        make(operation, Expression("F32", shape, "x"))


def test_integers_are_not_computed_with():
    with pytest.raises(ShapeError, match="only floating-point values"):
        make(AdaptInput(3), Expression("I64", (1, 1, 1), "x"))


def test_half_precision_is_computed_in_float32_and_rounded_once():
    kernel = torch.rand(2, 3, 1, 1).half()
    value = Expression("F16", (2, 3, 1, 1), "x")
    found = evaluate(make(AdaptInput(1), value), {"x": kernel.numpy()}.__getitem__)
    assert np.array_equal(found, kernel.float().sum(1, keepdim=True).half().numpy())
