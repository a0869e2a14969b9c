"""Sums of predictions, beside scikit-learn's and against formulas written out."""

import csv

import numpy as np
import pytest
from sklearn import metrics

from tests.reporting.conftest import predictions
from zoo.reporting.predicted import calibration, predicted, shares, together
from zoo.training.intervals import wilson

NAMES = ("a", "b", "c", "d")


@pytest.fixture
def found(tmp_path):
    true, guess, probability = predictions(tmp_path / "p.csv", NAMES, 400)
    return true, guess, probability, predicted(tmp_path / "p.csv", "classification", NAMES, "validation")


def test_classes_are_as_scikit_learn_has_them(found):
    true, guess, _, sums = found
    expected = metrics.precision_recall_fscore_support(true, guess)
    rows = [[row[key] for row in sums["classes"]] for key in ("precision", "recall", "f1", "support")]
    assert np.allclose(rows, expected)
    matrix = metrics.confusion_matrix(true, guess)
    assert sums["matrix"] == [[i, j, matrix[i, j]] for i in range(4) for j in range(4) if matrix[i, j]]
    row = sums["classes"][0]
    assert row["recall_interval"] == list(wilson(row["recall"], row["support"]))
    assert row["f1_interval"][0] < row["f1"] < row["f1_interval"][1]


def test_the_pairs_are_the_largest_errors(found):
    true, guess, _, sums = found
    matrix = metrics.confusion_matrix(true, guess)
    np.fill_diagonal(matrix, 0)
    first = sums["pairs"][0]
    assert first["count"] == matrix.max() == matrix[NAMES.index(first["class"]), NAMES.index(first["predicted"])]
    assert sum(pair["count"] for pair in sums["pairs"]) == (true != guess).sum()


def test_extremes_are_the_surest_mistakes_and_the_most_doubtful_hits(found):
    true, guess, probability, sums = found
    wrong = np.flatnonzero(true != guess)
    assert sums["extremes"]["mistakes"][0]["position"] == wrong[probability[wrong].argmax()]
    right = np.flatnonzero(true == guess)
    assert sums["extremes"]["doubtful"][0]["position"] == right[probability[right].argmin()]
    assert sums["extremes"]["mistakes"][0]["image"] == f"{wrong[probability[wrong].argmax()]}.png"


def test_the_calibration_error_is_the_mean_gap_of_the_bins():
    probability = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    correct = np.array([True, True, True, False, True, False])
    sums = calibration(probability, correct)
    assert sums["error"] == pytest.approx((4 * 0.20 + 2 * 0.05) / 6)
    assert [(row["bin"], row["samples"], row["accuracy"]) for row in sums["bins"]] == [(8, 2, 0.5), (14, 4, 0.75)]
    assert sums["interval"][0] <= sums["error"] <= sums["interval"][1]


def test_a_share_of_nothing_is_undefined():
    assert shares(0, 0, 5)["precision"] is None
    assert shares(0, 0, 5)["recall"] == 0
    assert shares(0, 0, 0)["f1"] is shares(0, 0, 0)["f1_interval"] is None


def test_confused_classes_stand_side_by_side():
    matrix = np.diag([10] * 6)
    matrix[0, 5] = matrix[5, 0] = matrix[2, 4] = 8
    order = together(matrix)
    assert sorted(order) == list(range(6))
    assert abs(order.index(0) - order.index(5)) == abs(order.index(2) - order.index(4)) == 1


def table(path, names, targets, outputs):
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        columns = [*(f"target: {name}" for name in names), "loss", *(f"output: {name}" for name in names)]
        writer.writerow(["image", "part", *columns])
        for place, (target, output) in enumerate(zip(targets, outputs, strict=True)):
            writer.writerow([place, "test", *target, 0.1, *output])


def test_labels_are_as_scikit_learn_has_them(tmp_path):
    generator = np.random.default_rng(0)
    there = (generator.random((200, 3)) < [0.5, 0.2, 0.0]).astype(float)
    outputs = (there * 2 - 1 + generator.normal(0, 1.5, there.shape)).round(1)  # with equal scores among them
    table(tmp_path / "p.csv", ["sun", "sea", "never"], there, outputs)
    sums = predicted(tmp_path / "p.csv", "multilabel", [], "test")
    for place in range(2):
        row = sums["labels"][place]
        average = metrics.average_precision_score(there[:, place], outputs[:, place])
        assert row["average_precision"] == pytest.approx(average)
        assert row["f1"] == pytest.approx(metrics.f1_score(there[:, place], outputs[:, place] >= 0))
        assert row["curve"][-1][0] == 1.0
    assert (sums["labels"][2]["average_precision"], sums["labels"][2]["curve"]) == (None, [])


def test_errors_of_a_regression(tmp_path):
    targets = np.linspace(0, 1, 3000)[:, None]
    outputs = targets + np.where(np.arange(3000) % 2, 0.2, -0.1)[:, None]
    table(tmp_path / "p.csv", ["angle"], targets, outputs)
    (row,) = predicted(tmp_path / "p.csv", "regression", [], "test")["targets"]
    assert row["mean_error"] == pytest.approx(0.05)
    assert row["absolute_error"] == pytest.approx(0.15)
    assert row["r2"] == pytest.approx(metrics.r2_score(targets, outputs))
    assert len(row["points"]) == 2000
    assert sum(row["residuals"]["counts"]) == 3000


def test_a_part_without_rows_has_no_sums(tmp_path):
    predictions(tmp_path / "p.csv", NAMES, 5)
    assert predicted(tmp_path / "p.csv", "classification", NAMES, "test") is None
