"""Losses: the tutorials' numbers, targets in the form each loss takes, nothing broadcast by accident."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo.errors import InputError, WorkError
from zoo.recipe.catalogue import names
from zoo.training.losses import ComponentLoss, asymmetric, check_loss, focal, make_loss


def test_the_tutorials_numbers():
    given, wanted = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[1.0], [2.0], [5.0]])
    assert make_loss("l1", "regression")(given, wanted).item() == pytest.approx(0.6667, abs=1e-4)
    assert make_loss({"L1Loss": {"reduction": "sum"}}, "regression")(given, wanted).item() == 2.0
    assert make_loss("mse", "regression")(given, wanted).item() == pytest.approx(1.3333, abs=1e-4)
    scores = torch.tensor([[0.1, 0.2, 0.3]])
    assert make_loss("auto", "classification")(scores, torch.tensor([1])).item() == pytest.approx(1.1019, abs=1e-4)


def test_auto_goes_by_the_task():
    kinds = {task: type(make_loss("auto", task).module) for task in ("classification", "multilabel", "regression")}
    assert kinds == {
        "classification": nn.CrossEntropyLoss,
        "multilabel": nn.BCEWithLogitsLoss,
        "regression": nn.MSELoss,
    }


def test_a_column_of_outputs_meets_a_column_of_targets():
    outputs, targets = torch.randn(6, 1), torch.randn(6)
    assert make_loss("mse", "regression")(outputs, targets) == F.mse_loss(outputs[:, 0], targets)


def test_class_indices_become_one_hot_where_values_are_compared():
    outputs, targets = torch.randn(5, 4), torch.tensor([0, 3, 1, 2, 2])
    for name, function in (("l1", F.l1_loss), ("bce", F.binary_cross_entropy_with_logits)):
        assert make_loss(name, "classification")(outputs, targets) == function(outputs, F.one_hot(targets, 4).float())


def test_shapes_that_do_not_fit_are_an_error():
    with pytest.raises(InputError, match=r"outputs \[6, 2\], targets \[6, 1\]"):
        make_loss("mse", "regression")(torch.randn(6, 2), torch.randn(6, 1))


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss:UserWarning")  # of KLDivLoss
def test_every_loss_on_offer_gives_a_number_with_a_gradient():
    for name in names("losses"):
        if name in ("LinearCrossEntropyLoss", "MultiLabelMarginLoss"):  # refused, see below
            continue
        outputs = torch.rand(6, 3, requires_grad=True)
        loss = make_loss(name, "classification")(outputs, torch.tensor([0, 1, 2, 0, 1, 2]))
        loss.backward()
        assert loss.ndim == 0, name
        assert outputs.grad is not None, name


def test_smoothing_and_class_weights():
    outputs, targets = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    assert make_loss("auto", "classification", label_smoothing=0.1)(outputs, targets) == F.cross_entropy(
        outputs, targets, label_smoothing=0.1
    )
    weighted = make_loss({"CrossEntropyLoss": {"weight": [1, 2, 3]}}, "classification")
    assert weighted(outputs, targets) == F.cross_entropy(outputs, targets, weight=torch.tensor([1.0, 2.0, 3.0]))


@pytest.mark.parametrize(("given", "summed"), [("mse", False), ({"MSELoss": {"reduction": "sum"}}, True)])
def test_parts_of_a_step_add_up_to_the_whole(given, summed):
    outputs, targets = torch.randn(10, 2), torch.randn(10, 2)
    loss = make_loss(given, "regression")
    assert loss.summed is summed
    parts = [(outputs[:7], targets[:7]), (outputs[7:], targets[7:])]
    once = sum(loss(*part) * loss.share(len(part[0]), 10, 1) for part in parts)
    assert once.item() == pytest.approx(loss(outputs, targets).item())
    over_processes = sum(loss(*part) * loss.share(len(part[0]), 10, 2) for part in parts) / 2  # DDP takes the mean
    assert over_processes.item() == pytest.approx(loss(outputs, targets).item())
    total = sum(loss.total(loss(*part), len(part[0])) for part in parts)
    assert total.item() == pytest.approx(loss(outputs, targets).item() * (1 if summed else 10))


@pytest.mark.parametrize(
    ("given", "smoothing", "message"),
    [
        ("crossentropy", 0, r"no loss is called 'crossentropy'"),
        ({"mse": {"reduction": "none"}}, 0, "reduction none leaves no single value"),
        ({"mse": {"weight": 3}}, 0, "loss mse: .*weight.*it takes"),
        ({"LinearCrossEntropyLoss": {"in_features": 3, "num_classes": 3}}, 0, "has parameters of its own"),
        ("MultiLabelMarginLoss", 0, "targets of a form"),
        ("mse", 0.1, "mse has no label smoothing"),
    ],
)
def test_mistakes_are_explained(given, smoothing, message):
    with pytest.raises(InputError, match=message):
        make_loss(given, "classification", label_smoothing=smoothing)


@pytest.mark.parametrize(
    ("given", "task", "message"),
    [
        ({"cross_entropy": {"weight": [1, 2, 3]}}, "classification", r"weight has 3 values, the data has 2 classes"),
        ({"bce": {"pos_weight": [1, 2, 3]}}, "multilabel", r"pos_weight has 3 values, the data has 2 classes"),
        ({"CrossEntropyLoss": {"ignore_index": 0.5}}, "classification", r"loss CrossEntropyLoss"),
    ],
)
def test_a_loss_that_does_not_fit_the_data(given, task, message):
    with pytest.raises(InputError, match=message):
        check_loss(given, task, 2)


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_losses_that_fit_the_data(task):
    check_loss("auto", task, 3)
    if task == "classification":
        check_loss({"cross_entropy": {"weight": [1, 2, 3]}}, task, 3, label_smoothing=0.1)


CLASSES, SEVERAL = torch.tensor([0, 3, 1, 2, 2]), (torch.arange(20).view(5, 4) % 3 == 0).float()


def test_focal_is_cross_entropy_at_gamma_0_and_torchvisions_for_several_labels():
    from torchvision.ops import sigmoid_focal_loss

    outputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(focal(outputs, CLASSES, gamma=0), F.cross_entropy(outputs, CLASSES, reduction="none"))
    sure = outputs.softmax(1)[range(5), CLASSES]
    assert torch.allclose(focal(outputs, CLASSES, gamma=2, alpha=0.3), -0.3 * (1 - sure) ** 2 * sure.log(), atol=1e-6)
    expected = sigmoid_focal_loss(outputs, SEVERAL, 0.25, 1.5, "none").mean(1)
    assert torch.equal(focal(outputs, SEVERAL, gamma=1.5, alpha=0.25), expected)
    assert (
        make_loss({"focal": {"gamma": 1.5}}, "multilabel")(outputs, SEVERAL)
        == focal(outputs, SEVERAL, gamma=1.5).mean()
    )


ROWS = F.one_hot(CLASSES, 4).float()
MIXED = 0.7 * ROWS + 0.3 * ROWS.roll(1, 0)


@pytest.mark.parametrize(
    ("value", "smoothing"),
    [
        ("auto", 0.0),
        ("auto", 0.1),
        ({"CrossEntropyLoss": {"weight": [1, 2, 3, 0.5]}}, 0.0),
        ({"CrossEntropyLoss": {"weight": [1, 2, 3, 0.5]}}, 0.1),
        ({"CrossEntropyLoss": {"reduction": "sum"}}, 0.0),
        ("focal", 0.0),
        ({"focal": {"gamma": 1.5, "alpha": 0.3}}, 0.0),
        ("bce", 0.0),
        ("mse", 0.0),
        ("asymmetric", 0.0),
    ],
)
def test_a_one_hot_row_is_the_class(value, smoothing):
    outputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    loss = make_loss(value, "classification", label_smoothing=smoothing)
    assert torch.allclose(loss(outputs, ROWS), loss(outputs, CLASSES))
    for soft, hard in zip(loss.each(outputs, ROWS), loss.each(outputs, CLASSES), strict=True):
        assert torch.allclose(soft, hard, atol=1e-6)
    check_loss(value, "classification", 4, label_smoothing=smoothing, soft=True)


@pytest.mark.parametrize("value", ["auto", "focal", {"CrossEntropyLoss": {"weight": [1, 2, 3, 0.5]}}])
def test_the_loss_of_a_mixed_sample_is_the_mixture_of_its_losses(value):
    outputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    loss = make_loss(value, "classification")
    (mixed, weights), (own, own_weights), (other, other_weights) = (
        loss.each(outputs, targets) for targets in (MIXED, CLASSES, CLASSES.roll(1))
    )
    assert torch.allclose(mixed, 0.7 * own + 0.3 * other, atol=1e-6)
    assert torch.allclose(weights, 0.7 * own_weights + 0.3 * other_weights)
    assert torch.allclose(loss(outputs, MIXED), mixed.sum() / weights.sum())
    if value == "auto":
        from timm.loss import SoftTargetCrossEntropy

        assert torch.allclose(loss(outputs, MIXED), SoftTargetCrossEntropy()(outputs, MIXED))


@pytest.mark.parametrize("value", ["MultiMarginLoss", "NLLLoss"])
def test_a_loss_that_takes_one_class_a_sample_refuses_shares(value):
    with pytest.raises(InputError, match=f"{value} takes one class a sample, .*"):
        check_loss(value, "classification", 4, soft=True)
    check_loss(value, "classification", 4)


def test_asymmetric_is_timms():
    from timm.loss import AsymmetricLossMultiLabel

    outputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    timms, rows = AsymmetricLossMultiLabel(), range(5)  # one by one: timm took the sum over a batch, then the mean
    mine = asymmetric(outputs, SEVERAL).sum()
    its = torch.stack([timms(outputs[[row]], SEVERAL[[row]]) for row in rows]).sum()
    assert mine.item() == pytest.approx(its.item(), rel=1e-6)
    (one,), (other,) = torch.autograd.grad(mine, outputs), torch.autograd.grad(its, outputs)
    assert torch.allclose(one, other, atol=1e-6)
    assert torch.equal(asymmetric(outputs, CLASSES), asymmetric(outputs, F.one_hot(CLASSES, 4).float()))


ACME = """
import torch
from torch import nn
def halves(outputs, targets, *, by: float = 2.0):
    assert targets.dtype == torch.int64
    return nn.functional.cross_entropy(outputs, targets, reduction="none") / by
def mean(outputs, targets): return outputs.mean()
def fails(outputs, targets): raise KeyError("oh")
def constant(outputs, targets): return torch.zeros(len(outputs))
def several(outputs, targets):
    if not targets.is_floating_point(): return nn.functional.cross_entropy(outputs, targets, reduction="none")
    return nn.functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none")
class Reducing(nn.Module):
    def __init__(self, *, scale: float = 3.0, reduction: str = "mean"):
        super().__init__(); self.scale, self.reduction = scale, reduction
    def forward(self, outputs, targets):
        return self.scale * nn.functional.cross_entropy(outputs, targets, reduction=self.reduction)
class Weighs:
    def __init__(self, *, weight: list[float]): self.weight = weight
    def __call__(self, outputs, targets): return outputs.square() * self.weight
"""


@pytest.fixture
def acme(plugins):
    names = ("halves", "mean", "fails", "constant", "several", "Reducing", "Weighs")
    plugins.write("zoo-acme", "[zoo.losses]\n" + "\n".join(f"{n} = acme_losses:{n}" for n in names), acme_losses=ACME)


def test_a_plugins_loss_is_a_value_a_sample(acme):
    outputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    expected = F.cross_entropy(outputs, CLASSES, reduction="none")
    loss = make_loss({"acme/halves": {"by": 4.0}}, "classification")
    assert torch.equal(loss(outputs, CLASSES), (expected / 4).mean())
    assert torch.equal(loss.each(outputs, CLASSES)[0], expected / 4)
    check_loss("halves", "classification", 4)
    reducing = make_loss("Reducing", "classification")
    assert isinstance(reducing, ComponentLoss)
    assert reducing(outputs, CLASSES) == 3 * F.cross_entropy(outputs, CLASSES)
    assert torch.equal(reducing.each(outputs, CLASSES)[0], 3 * expected)
    weighs = make_loss({"Weighs": {"weight": [1.0, 0.0, 0.0, 0.0]}}, "classification")
    assert torch.equal(weighs.each(outputs, CLASSES)[0], outputs[:, 0].square() / 4)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mean", r"acme/mean \(zoo-acme 1.0\) gives \[\] for outputs \[2, 4\], not a value a sample"),
        ("fails", r"loss acme/fails does not work on 4 outputs: acme/fails \(zoo-acme 1.0\) failed: KeyError"),
        ("constant", "loss acme/constant gives no gradient"),
        (
            "several",
            r"loss acme/several takes one class a sample, .*for a class's row of 1 and 0 it gives another value",
        ),
        ("halves", r"loss acme/halves takes one class a sample, .*: acme/halves .* failed: AssertionError"),
    ],
)
def test_a_plugins_loss_that_is_none_is_found_before_training(acme, name, said):
    with pytest.raises(InputError, match=said):
        check_loss(name, "classification", 4, soft=name in ("several", "halves"))


def test_a_plugins_loss_that_fails_is_named(acme):
    with pytest.raises(WorkError, match=r"acme/fails \(zoo-acme 1.0\) failed: KeyError: 'oh'"):
        make_loss("fails", "classification")(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64))
