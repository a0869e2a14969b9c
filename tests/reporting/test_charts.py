"""Coordinates: what is drawn stands where its numbers say."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from zoo.reporting.charts import bars, confusion, confusion_picture, line_chart, number, reliability, scatter, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.5, 1]), (0.91, 0.99, [0.92, 0.94, 0.96, 0.98]), (-3, 2e6, [0, 5e5, 1e6, 1.5e6, 2e6]), (2, 2, [2])],
)
def test_ticks_are_round_numbers_inside(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_labels_of_ticks_are_short():
    assert [number(value) for value in (0, 0.5, 1500, 1e-5, 2e6)] == ["0", "0.5", "1,500", "1e-5", "2e6"]


def test_a_line_goes_through_its_points():
    chart = line_chart("t", {"a": [(1, 0.0), (2, float("nan")), (3, 2.0)], "b": [(1, None)]}, floor=0.0)
    (line,) = chart["lines"]
    ys = {label: y for y, label in chart["y_ticks"]}
    xs = {label: x for x, label in chart["x_ticks"]}
    assert line["path"] == f"M{xs['1']:.1f} {ys['0']:.1f} L{xs['3']:.1f} {ys['2']:.1f}"
    assert line["last"] == 2.0
    assert line_chart("t", {"a": []}) is None


def test_a_long_line_has_few_dots():
    (line,) = line_chart("t", {"a": [(x, x % 7) for x in range(5000)]})["lines"]
    assert len(line["dots"]) <= 60


def test_bars_of_a_reliability_diagram_are_as_high_as_the_accuracy():
    rows = [{"bin": 9, "samples": 4, "confidence": 0.95, "accuracy": 0.5, "interval": [0.2, 0.8]}]
    chart = reliability({"bins": rows}, 10)
    ys = {label: y for y, label in chart["y_ticks"]}
    (bar,) = chart["bars"]
    assert bar["y"] == pytest.approx(ys["0.5"])
    assert bar["low"] > bar["y"] > bar["high"]


def test_a_scatter_has_one_scale_for_both_axes():
    chart = scatter([(0.0, 0.0), (1.0, 1.0), (0.0, float("inf"))])
    assert len(chart["points"]) == 2
    left, bottom, right, top = chart["diagonal"]
    slope = (bottom - top) / (right - left)
    assert all(bottom - (x - left) * slope == pytest.approx(y) for x, y in chart["points"])


def test_a_histogram_stands_on_its_axis():
    chart = bars("t", [(0.0, 1.0, 4.0, "four"), (1.0, 2.0, 2.0, "two")], "x")
    (_, _, high, tall, _), (_, _, low, short, _) = chart["columns"]
    assert tall == pytest.approx(2 * short)
    assert high + tall == pytest.approx(low + short)
    assert bars("t", [], "x") is None


def test_a_confusion_matrix_is_shaded_by_share_and_sorted():
    drawn = confusion([[0, 0, 3], [0, 1, 1], [1, 1, 5]], ["a", "<b>"], [1, 0])
    assert drawn["names"] == ["<b>", "a"]
    shares = {(square["hit"], square["count"]): square["share"] for square in drawn["squares"]}
    assert shares == {(True, 3): 0.75, (False, 1): 0.25, (True, 5): 1.0}
    assert drawn["squares"][1]["said"] == "a taken for <b>: 1 of 4 (25.0%)"
    assert drawn["squares"][2]["x"] == drawn["squares"][2]["y"] == drawn["room"]


def test_many_classes_are_a_picture():
    address = confusion_picture([[0, 0, 3], [0, 2, 1], [1, 1, 5], [2, 2, 1]], 3, [2, 1, 0])
    content = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"))
    assert pixels.shape == (3, 3, 4)
    assert (pixels[..., 3] > 0).tolist() == [[True, False, False], [False, True, False], [True, False, True]]
    assert pixels[2, 0, 0] > pixels[2, 0, 2]  # an error is red
    assert pixels[0, 0, 2] > pixels[0, 0, 0]
