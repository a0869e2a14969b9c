"""Numbers of each class: scikit-learn's, with and without thresholds, and as a table."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support

from zoo.training.evaluate import measured_of
from zoo.training.metrics import make_metrics
from zoo.training.per_class import class_table, per_class
from zoo.training.predictions import Predictions

NAMES = ("ant", "bee", "cow", "doe")


def predictions(outputs, targets, task="classification", thresholds=()) -> Predictions:
    places = tuple(map(str, range(len(targets))))
    return Predictions(outputs, targets, ("validation",) * len(targets), places, NAMES, task, thresholds)


def numbers(rows):
    return [[row["precision"] or 0, row["recall"] or 0, row["f1"] or 0, row["support"]] for row in rows]


def test_they_are_scikit_learns():
    generator = torch.Generator().manual_seed(0)
    outputs, targets = torch.randn(80, 4, generator=generator), torch.randint(3, (80,), generator=generator)
    rows = per_class(predictions(outputs, targets))
    known = precision_recall_fscore_support(targets, outputs.argmax(-1), labels=range(4), zero_division=0)
    np.testing.assert_allclose(numbers(rows), np.stack(known, 1))
    assert [row["class"] for row in rows] == list(NAMES)
    assert (rows[3]["recall"], rows[3]["support"]) == (None, 0)  # no sample is of it
    assert rows[0]["recall_interval"][0] < rows[0]["recall"] < rows[0]["recall_interval"][1]


def test_of_labels_they_go_by_the_thresholds_and_so_do_metrics():
    generator = torch.Generator().manual_seed(1)
    outputs, targets = torch.randn(80, 4, generator=generator), (torch.rand(80, 4, generator=generator) < 0.4).float()
    thresholds = (0.2, 0.5, 0.7, 0.4)
    found = predictions(outputs, targets, "multilabel", thresholds)
    rows = per_class(found)
    known = precision_recall_fscore_support(targets, outputs.sigmoid() >= torch.tensor(thresholds), zero_division=0)
    np.testing.assert_allclose(numbers(rows), np.stack(known, 1))
    assert tuple(row["threshold"] for row in rows) == thresholds
    measured = measured_of(found, ["f1", "average_precision", {"recall": {"threshold": 0.9}}])
    assert measured.metrics["f1"] == pytest.approx(np.mean([row["f1"] for row in rows]))
    assert list(measured.per_class) == rows
    plain = measured_of(predictions(outputs, targets, "multilabel"), ["f1", "average_precision", "recall"])
    assert plain.metrics["f1"] != measured.metrics["f1"]
    assert plain.metrics["average_precision"] == measured.metrics["average_precision"]
    own = make_metrics([{"recall": {"threshold": 0.9}}], "multilabel", 4)
    own.update(outputs, targets)
    assert measured.metrics["recall"] == pytest.approx(own.compute()["recall"])  # a threshold of its own stays


def test_soft_targets_count_as_their_likeliest_class():
    outputs, soft = torch.eye(4) * 3, torch.full((4, 4), 0.1) + torch.eye(4) * 0.6
    measured = measured_of(predictions(outputs, soft), ["accuracy", "f1", "balanced_accuracy"])
    assert [measured.metrics[name] for name in ("accuracy", "f1", "balanced_accuracy")] == [1.0, 1.0, 1.0]
    assert [row["support"] for row in measured.per_class] == [1] * 4
    assert measured.metrics["loss"] == pytest.approx(torch.nn.functional.cross_entropy(outputs, soft).item())


def test_a_regression_has_none():
    assert per_class(predictions(torch.randn(5, 1), torch.randn(5, 1), "regression")) == []


def test_the_table_lists_the_worst_of_many():
    rows = per_class(predictions(torch.eye(4), torch.tensor([0, 1, 2, 2])))
    assert [line.split() for line in class_table(rows)][:2] == [
        ["class", "support", "precision", "recall", "f1"],
        ["ant", "1", "1.0000", "1.0000", "1.0000"],
    ]
    assert list(class_table(rows))[4].split() == ["doe", "0", "0.0000", "undefined", "0.0000"]
    many = [{**rows[0], "class": f"c{number}", "f1": number / 100} for number in range(60)]
    lines = list(class_table(list(reversed(many))))
    assert lines[1].startswith("c0 ")
    assert lines[-1] == "and 40 classes with a higher F1, or none: --json has all of them"
    assert list(class_table([])) == []
