"""Class weights: scikit-learn's formula, by name, in the loss itself; the same loss however a step is cut up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from zoo.contracts import Data
from zoo.data.open_data import OpenData, open_data
from zoo.errors import InputError
from zoo.given import given
from zoo.recipe.options import DataOptions
from zoo.training.class_weights import as_record, weighted
from zoo.training.losses import focal, make_loss

NAMES = ("cat", "dog", "owl")
LABELS = [0] * 7 + [1] * 2 + [2]
ROWS = [[1.0, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0]]


def opened(targets, task="classification", names=NAMES) -> OpenData:
    rows = [(torch.zeros(3), target) for target in targets]
    data = Data(rows, validation=rows, classes=names, task=task, inputs="features")
    with given({"datasets": {"python:x": lambda: data}}):
        return open_data(DataOptions(source="python:x"))


def test_balanced_is_scikit_learns():
    found = weighted("auto", "balanced", opened(LABELS))
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 2]), y=LABELS)
    assert found.weights == pytest.approx(expected)
    assert found.mean == pytest.approx(1)
    assert found.loss == {"CrossEntropyLoss": {"weight": list(found.weights)}}
    assert as_record(found, opened(LABELS)) == dict(zip(NAMES, found.weights, strict=True))


def test_of_several_labels_balanced_is_absent_over_present():
    data = opened(ROWS, "multilabel")
    for loss, name in (("auto", "BCEWithLogitsLoss"), ("focal", "focal"), ("asymmetric", "asymmetric")):
        found = weighted(loss, "balanced", data)
        assert found.loss == {name: {"pos_weight": [pytest.approx(1 / 3), 3.0, 1.0]}}  # no sample shows an owl
        assert found.mean is None


def test_soft_targets_count_by_their_probabilities():
    data = opened([[0.5, 0.5, 0], [1, 0, 0], [0, 0.5, 0.5]])
    assert (data.soft, data.class_counts) == (True, (1.5, 1.0, 0.5))
    found = weighted("cross_entropy", "balanced", data)
    assert found.weights == pytest.approx([3 / (3 * 1.5), 1.0, 2.0])
    outputs, targets = torch.randn(3, 3), data.parts["train"].every_target()
    loss = make_loss(found.loss, "classification", mean_weight=found.mean)
    expected = (
        F.cross_entropy(outputs, targets, torch.tensor(found.weights)) / (targets @ torch.tensor(found.weights)).mean()
    )
    torch.testing.assert_close(loss(outputs, targets), expected)
    values, divisors = loss.each(outputs, targets)
    torch.testing.assert_close(values.sum() / divisors.sum(), loss(outputs, targets))


def test_weights_by_name_fill_up_with_1():
    found = weighted({"focal": {"gamma": 1.0}}, {"owl": 5, "cat": 0}, opened(LABELS))
    assert found.loss == {"focal": {"gamma": 1.0, "weight": [0.0, 1.0, 5.0]}}
    assert weighted("auto", None, opened(LABELS)).weights == ()


@pytest.mark.parametrize(
    ("loss", "asked", "targets", "task", "said"),
    [
        ("auto", {"cta": 2.0}, LABELS, "classification", r"no class 'cta' \(did you mean cat\?\)"),
        ("auto", {"zebra": 2.0}, LABELS, "classification", r"no class 'zebra' \(there is cat, dog or owl\)"),
        ("mse", "balanced", LABELS, "classification", r"nothing with the loss mse .* \(write loss: cross_entropy, foc"),
        ("MultiLabelSoftMarginLoss", "balanced", ROWS, "multilabel", "write loss: bce, focal or asymmetric"),
        ("mse", "balanced", [1.5, 2.5], "regression", "a regression has no classes"),
        ({"cross_entropy": {"weight": [1, 2, 3]}}, "balanced", LABELS, "classification", "has weights of its own"),
        ("auto", {"cat": 0, "dog": 0, "owl": 0}, LABELS, "classification", "counts 0"),
    ],
)
def test_what_does_not_fit_is_said(loss, asked, targets, task, said):
    with pytest.raises(InputError, match=said):
        weighted(loss, asked, opened(targets, task, () if task == "regression" else NAMES))


def test_every_loss_that_a_hint_names_takes_them():
    for name in ("cross_entropy", "focal", "NLLLoss", "MultiMarginLoss"):
        assert weighted(name, "balanced", opened(LABELS)).weights
    for name in ("bce", "focal", "asymmetric"):
        assert weighted(name, "balanced", opened(ROWS, "multilabel")).weights
    assert "pos_weight" in weighted("bce", "balanced", opened(LABELS)).loss["bce"]  # each class by itself


def test_a_step_cut_up_is_the_same_step():
    """Over two processes and accumulated batches: each sample counts what it counts in one batch of all."""
    data = opened(LABELS)
    found = weighted("auto", {"owl": 5.0}, data)
    outputs, targets = torch.randn(10, 3, requires_grad=True), torch.tensor(LABELS)
    whole = F.cross_entropy(outputs, targets, torch.tensor(found.weights))
    (expected,) = torch.autograd.grad(whole, outputs)
    loss = make_loss(found.loss, "classification", label_smoothing=0.0, mean_weight=found.mean)
    for cuts in ([(0, 10)], [(0, 3), (3, 4), (4, 10)]):
        parts = sum(loss(outputs[a:b], targets[a:b]) * loss.share(b - a, 10, 1) for a, b in cuts)
        torch.testing.assert_close(parts, whole)
        torch.testing.assert_close(torch.autograd.grad(parts, outputs)[0], expected)


def test_evenly_drawn_classes_have_the_plain_mean():
    assert weighted("auto", {"owl": 4.0}, opened(LABELS), evenly=True).mean == pytest.approx(2)
    assert weighted("auto", {"owl": 4.0}, opened(LABELS)).mean == pytest.approx((9 + 4) / 10)


def test_weights_in_focal_losses():
    outputs, targets = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    plain = focal(outputs, targets)
    torch.testing.assert_close(
        focal(outputs, targets, weight=[1.0, 2.0, 3.0]), plain * torch.tensor([1.0, 2, 3, 1, 2, 3])
    )
    rows = F.one_hot(targets, 3).float()
    torch.testing.assert_close(
        make_loss({"focal": {"gamma": 0.0, "pos_weight": [2.0, 3.0, 4.0]}}, "multilabel")(outputs, rows),
        F.binary_cross_entropy_with_logits(outputs, rows, pos_weight=torch.tensor([2.0, 3.0, 4.0])),
    )
