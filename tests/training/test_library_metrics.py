"""The value of one class of torchmetrics' metrics: scikit-learn's, the table's, and what cannot be asked."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import average_precision_score, fbeta_score, precision_recall_fscore_support, roc_auc_score

from zoo.errors import InputError
from zoo.training.metrics import make_metrics
from zoo.training.per_class import per_class
from zoo.training.predictions import Predictions

CLASSES = ("cat", "dog", "owl")
COUNTED = ("precision", "recall", "f1")


def samples(task: str = "classification") -> tuple[torch.Tensor, torch.Tensor]:
    """Two hundred made-up answers; none is of the last class."""
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(200, 3, generator=generator)
    if task == "classification":
        return outputs, torch.randint(0, 2, (200,), generator=generator)
    targets = (torch.rand(200, 3, generator=generator) > 0.5).float()
    targets[:, 2] = 0
    return outputs, targets


def values(*metrics, task="classification", thresholds=(), batches=3) -> tuple[dict, dict]:
    outputs, targets = samples(task)
    made = make_metrics(metrics, task, 3, local=True, classes=CLASSES, thresholds=thresholds)
    for rows in torch.arange(200).chunk(batches):
        made.update(outputs[rows], targets[rows])
    found = made.compute()
    return found, made.intervals(found, outputs, targets)


def of(name: str, label: str, **more) -> dict:
    return {name: {**more, "class": label}}


def test_one_class_is_scikit_learns():
    outputs, targets = samples()
    scores = outputs.softmax(1)
    found, _ = values(*(of(name, label) for label in CLASSES for name in (*COUNTED, "auroc", "average_precision")))
    labels = {"labels": [0, 1, 2], "zero_division": math.nan}
    theirs = precision_recall_fscore_support(targets, outputs.argmax(1), **labels)
    for name, column in zip(COUNTED, theirs, strict=False):
        mine = [found[f"{name}(class={label})"] for label in CLASSES]
        assert mine == pytest.approx(list(column), abs=1e-6, nan_ok=True)
    for place, label in enumerate(CLASSES[:2]):
        assert found[f"auroc(class={label})"] == pytest.approx(roc_auc_score(targets == place, scores[:, place]))
        own = average_precision_score(targets == place, scores[:, place])
        assert found[f"average_precision(class={label})"] == pytest.approx(own)
    assert math.isnan(found["auroc(class=owl)"])
    assert math.isnan(found["average_precision(class=owl)"])


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_one_class_has_the_numbers_and_intervals_of_the_table(task):
    outputs, targets = samples(task)
    thresholds = (0.3, 0.5, 0.9) if task == "multilabel" else ()
    found, intervals = values(*(of(name, "dog") for name in COUNTED), task=task, thresholds=thresholds)
    predictions = Predictions(outputs, targets, ("validation",) * 200, ("",) * 200, CLASSES, task, thresholds)
    row = per_class(predictions)[1]
    for name in COUNTED:
        assert found[f"{name}(class=dog)"] == pytest.approx(row[name])
        assert list(intervals[f"{name}(class=dog)"]) == pytest.approx(row[f"{name}_interval"])


def test_what_nothing_is_counted_for_is_undefined_as_in_the_table():
    found, intervals = values(of("recall", "owl"), of("precision", "owl"))
    assert math.isnan(found["recall(class=owl)"])
    assert intervals["recall(class=owl)"] is None
    assert found["precision(class=owl)"] == 0


def test_a_class_of_torchmetrics_by_its_own_name():
    outputs, targets = samples()
    found, _ = values(of("FBetaScore", "cat", beta=2.0))
    theirs = fbeta_score(targets, outputs.argmax(1), beta=2, labels=[0], average=None)[0]
    assert found == {"FBetaScore(beta=2.0, class=cat)": pytest.approx(theirs)}


@pytest.mark.parametrize(
    ("metric", "said", "cure"),
    [
        (of("f1", "dgo"), "metric f1: there is no class 'dgo'", "did you mean dog?"),
        (of("f1", "zebra"), "there is no class 'zebra'", "there is cat, dog or owl"),
        (of("accuracy", "cat"), "the accuracy of one class is its recall", "write recall"),
        (of("Accuracy", "cat"), "the accuracy of one class is its recall", "write recall"),
        (of("f1", "cat", average="micro"), "class is one class, average several", "remove one of them"),
        (of("CohenKappa", "cat"), "metric CohenKappa has no value of one class", "precision, recall, f1, average_"),
    ],
)
def test_what_cannot_be_asked_of_one_class(metric, said, cure):
    with pytest.raises(InputError) as caught:
        make_metrics([metric], "classification", 3, classes=CLASSES)
    assert said in caught.value.problems[0].message
    assert cure in caught.value.problems[0].suggestion


def test_a_regression_has_no_classes():
    with pytest.raises(InputError, match="a regression has no classes"):
        make_metrics([of("r2", "cat")], "regression", 1)
