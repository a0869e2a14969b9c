"""Metrics: equal to torchmetrics over batches of any size, by task, mistakes found before training."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torchmetrics
from torch.nn import functional as F

from zoo.errors import InputError
from zoo.recipe.catalogue import names
from zoo.training.metrics import make_metrics

torch.manual_seed(0)
OUTPUTS = torch.randn(50, 4)
CLASSES = torch.randint(0, 4, (50,))
SEVERAL = (torch.rand(50, 4) > 0.6).float()
VALUES = torch.randn(50, 4)


def computed(names, task, targets, outputs=OUTPUTS) -> dict[str, float]:
    metrics = make_metrics(names, task, outputs.shape[1])
    for chunk in range(0, 50, 16):
        metrics.update(outputs[chunk : chunk + 16], targets[chunk : chunk + 16])
    return metrics.compute()


def test_accuracy_is_torchmetrics_micro_accuracy_without_importing_it():
    theirs = torchmetrics.functional.classification.multiclass_accuracy(OUTPUTS, CLASSES, 4, average="micro")
    assert computed(None, "classification", CLASSES) == {"accuracy": pytest.approx(theirs.item())}
    make = "from zoo.training.metrics import make_metrics; make_metrics(None, 'classification', 3)"
    code = f"import sys; {make}; make_metrics(None, 'regression', 1); assert 'torchmetrics' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_short_names_for_classes():
    found = computed(["f1", "top5", "balanced_accuracy", "auroc", "CohenKappa"], "classification", CLASSES)
    functional = torchmetrics.functional.classification
    assert found == {
        "f1": pytest.approx(functional.multiclass_f1_score(OUTPUTS, CLASSES, 4).item()),
        "top5": 1.0,  # of four classes
        "balanced_accuracy": pytest.approx(functional.multiclass_accuracy(OUTPUTS, CLASSES, 4, average="macro").item()),
        "auroc": pytest.approx(functional.multiclass_auroc(OUTPUTS.softmax(1), CLASSES, 4).item()),
        "CohenKappa": pytest.approx(functional.multiclass_cohen_kappa(OUTPUTS, CLASSES, 4).item()),
    }


def test_multilabel():
    functional = torchmetrics.functional.classification
    assert computed(["average_precision", "f1"], "multilabel", SEVERAL) == {
        "average_precision": pytest.approx(functional.multilabel_average_precision(OUTPUTS, SEVERAL.long(), 4).item()),
        "f1": pytest.approx(functional.multilabel_f1_score(OUTPUTS, SEVERAL.long(), 4).item()),
    }
    assert list(computed(None, "multilabel", SEVERAL)) == ["average_precision"]


def test_regression_and_losses_as_metrics():
    found = computed(["mae", "mse", "r2", {"L1Loss": {"reduction": "sum"}}, "SmoothL1Loss"], "regression", VALUES)
    assert found == {
        "mae": pytest.approx(F.l1_loss(OUTPUTS, VALUES).item()),
        "mse": pytest.approx(F.mse_loss(OUTPUTS, VALUES).item()),
        "r2": pytest.approx(torchmetrics.functional.r2_score(OUTPUTS, VALUES).item(), rel=1e-4),
        "L1Loss": pytest.approx(F.l1_loss(OUTPUTS, VALUES, reduction="sum").item()),
        "SmoothL1Loss": pytest.approx(F.smooth_l1_loss(OUTPUTS, VALUES).item()),
    }
    assert computed(["CrossEntropyLoss"], "classification", CLASSES) == {
        "CrossEntropyLoss": pytest.approx(F.cross_entropy(OUTPUTS, CLASSES).item())
    }


def test_a_second_round_starts_anew():
    metrics = make_metrics(["accuracy", "f1"], "classification", 4)
    for targets in (CLASSES, OUTPUTS.argmax(1)):
        metrics.update(OUTPUTS, targets)
        found = metrics.compute()
    assert found == {"accuracy": 1.0, "f1": 1.0}


def test_the_first_metric_decides_and_knows_its_direction():
    assert (make_metrics(["f1", "accuracy"], "classification", 4).main, "f1") == ("f1", "f1")
    assert make_metrics(None, "classification", 4).higher_is_better
    assert not make_metrics(None, "regression", 1).higher_is_better


@pytest.mark.filterwarnings("ignore:Metric `SpearmanCorrcoef` will save all targets:UserWarning")
@pytest.mark.parametrize(
    ("names", "task", "message"),
    [
        (["mae"], "classification", "metric 'mae' does not fit a classification task"),
        (["accuracy"], "regression", "metric 'accuracy' does not fit a regression task"),
        (["acuracy"], "classification", "no metric is called 'acuracy'"),
        (["val_f1"], "classification", r"no metric is called 'val_f1' \(did you mean f1"),
        (["acc"], "classification", r"no metric is called 'acc' \(for instance accuracy, top5"),
        (["ConfusionMatrix"], "classification", "gives more than one number"),
        (["SpearmanCorrCoef"], "classification", "metric SpearmanCorrCoef for a classification task"),
        ([{"f1": {"avg": "macro"}}], "classification", "metric f1 for a classification task: .*avg"),
    ],
)
def test_mistakes_are_found_at_once(names, task, message):
    with pytest.raises(InputError, match=message):
        make_metrics(names, task, 4)


def test_one_metric_with_several_arguments_has_a_row_for_each():
    functional = torchmetrics.functional.classification
    asked = ["f1", {"f1": {"average": "micro"}}, {"recall": {"average": "micro"}}]
    assert computed(asked, "classification", CLASSES) == {
        "f1": pytest.approx(functional.multiclass_f1_score(OUTPUTS, CLASSES, 4).item()),
        "f1(average=micro)": pytest.approx(functional.multiclass_f1_score(OUTPUTS, CLASSES, 4, average="micro").item()),
        "recall": pytest.approx(functional.multiclass_recall(OUTPUTS, CLASSES, 4, average="micro").item()),
    }


@pytest.mark.parametrize("twice", [["f1", "f1"], [{"f1": {"average": "micro"}}] * 2])
def test_a_metric_asked_for_twice_is_a_mistake(twice):
    with pytest.raises(InputError, match=r"the metric 'f1.*' is asked for twice \(remove one of them\)"):
        make_metrics(["accuracy", *twice], "classification", 4)


def test_no_metric_takes_the_place_of_the_loss():
    assert "loss" not in names("metrics")


ACME = """
import torchmetrics
def worst(outputs, targets, *, share: float = 1.0): return share * (outputs - targets).abs().max()
worst.higher_is_better = False
def two(outputs, targets): return outputs[:2]
def several(outputs, targets): return {"a": 1.0}
def fails(outputs, targets): return {}["x"]
class Best:
    def __init__(self): self.best = 0.0
    def __call__(self, outputs, targets):
        self.best = max(self.best, (outputs.argmax(1) == targets).double().mean().item())
        return self.best
    def state_dict(self): return {"best": self.best}
    def load_state_dict(self, state): self.best = state["best"]
class Theirs(torchmetrics.classification.MulticlassAccuracy): pass
"""


@pytest.fixture
def acme(plugins):
    names = ("worst", "two", "several", "fails", "Best", "Theirs")
    plugins.write(
        "zoo-acme", "[zoo.metrics]\n" + "\n".join(f"{n} = acme_metrics:{n}" for n in names), acme_metrics=ACME
    )


def test_a_plugins_metric_is_one_number_of_all_samples(acme):
    found = computed([{"acme/worst": {"share": 0.5}}], "regression", VALUES)
    assert found == {"acme/worst": 0.5 * (OUTPUTS - VALUES).abs().max().item()}
    assert not make_metrics(["worst"], "regression", 4).higher_is_better
    one_a_sample = make_metrics(["worst"], "regression", 1)
    one_a_sample.update(torch.tensor([[1.0], [2.0]]), torch.tensor([1.5, 2.25]))
    assert one_a_sample.compute() == {"worst": 0.5}, "no broadcast of [b] against [b, 1]"


def test_a_plugins_torchmetrics_class_gets_what_torchmetrics_own_gets(acme):
    metrics = make_metrics([{"Theirs": {"average": "micro"}}], "classification", 4, local=True)
    metrics.update(OUTPUTS, CLASSES)
    assert metrics.compute()["Theirs"] == pytest.approx((OUTPUTS.argmax(1) == CLASSES).float().mean().item())


def test_a_metrics_state_is_saved_and_trying_it_leaves_none(acme):
    metrics = make_metrics(["Best"], "classification", 4)
    assert metrics.state_dict() == {"Best": {"best": 0.0}}
    metrics.load_state_dict({"Best": {"best": 0.9}})
    metrics.update(OUTPUTS, CLASSES)
    assert metrics.compute() == {"Best": 0.9}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("two", r"acme/two \(zoo-acme 1.0\) gives Tensor, not one number"),
        ("several", r"acme/several \(zoo-acme 1.0\) gives dict, not one number"),
        ("fails", "failed: KeyError"),
    ],
)
def test_a_plugins_metric_that_is_none_is_found_before_training(acme, name, said):
    with pytest.raises(InputError, match=said):
        make_metrics([name], "classification", 4)
