"""The step `probe`: scikit-learn's accuracy on the same features, and a start for fine-tuning."""

import pytest
import torch
import yaml
from sklearn.linear_model import LogisticRegression

from zoo.data.open_data import open_data
from zoo.errors import InputError
from zoo.finetuning.finetune import finetune
from zoo.model.build import build
from zoo.recipe.options import DataOptions
from zoo.steps.probe import Probe, head_inputs, linear_head, solve_head
from zoo.training.callbacks import Listener
from zoo.training.evaluate import evaluate
from zoo.training.trunk.choose import Speed

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def run(tmp_path):
    def finetuned(*steps, architecture="timm/test_resnet", **data):
        recipe = {
            "name": "run",
            "model": {"architecture": architecture},
            "data": {"source": "sklearn/digits", "image_size": 32, "limit": 300, **data},
            "steps": [{"swap_head": {"num_classes": "auto"}}, *steps],
        }
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump(recipe, sort_keys=False))
        return finetune(path, output=tmp_path / "run", overwrite=True, progress=Listener()).report

    return finetuned


def test_probe_is_as_good_as_scikit_learn():
    torch.manual_seed(0)
    assembly = build("timm/test_resnet", {"num_classes": 10})
    data = open_data(DataOptions(source="sklearn/digits", image_size=32), assembly.preprocessing)
    _, head = linear_head(assembly.model, 10)
    features = head_inputs(assembly.model, head, data, CPU, Speed(exact=True))[0]
    solution = solve_head(Probe(l2=1e-2), *features["train"], data)
    theirs = LogisticRegression(C=1 / (1e-2 * len(features["train"][0])), solver="newton-cholesky", tol=1e-8)
    theirs.fit(features["train"][0].double(), features["train"][1])
    inputs, targets = features["validation"]
    ours = ((inputs.double() @ solution.weight.T + solution.bias).argmax(1) == targets).double().mean()
    assert solution.converged
    assert float(ours) == pytest.approx(theirs.score(inputs.double(), targets), abs=1e-3)


def test_features_are_what_reaches_the_head():
    torch.manual_seed(0)
    assembly = build("timm/test_resnet", {"num_classes": 10})
    data = open_data(DataOptions(source="sklearn/digits", image_size=32, limit=40), assembly.preprocessing)
    _, head = linear_head(assembly.model, 10)
    features, _ = head_inputs(assembly.model, head, data, CPU, Speed(exact=True))[0]["validation"]
    images = torch.cat([batch.inputs for batch in data.batches("validation").epoch(0)])
    with torch.no_grad():
        assert torch.allclose(head(features), assembly.model.eval()(images), atol=1e-5)


def test_fine_tuning_starts_at_the_probes_loss(run):
    train = {"epochs": 1, "lr": 1e-9, "optimizer": "SGD", "precision": "float32", "weight_decay": 0.0}
    report = run({"freeze": "all_but_head"}, "probe", {"train": train})
    probe, tuned = report["stages"]
    assert tuned["epochs"][0]["loss"] == pytest.approx(probe["train_loss"], rel=1e-3)
    assert tuned["epochs"][0]["validation"]["loss"] == pytest.approx(probe["metrics"]["loss"], rel=1e-3)


def test_probe_changes_the_head_alone():
    torch.manual_seed(0)
    assembly = build("timm/test_resnet", {"num_classes": 10})
    data = open_data(DataOptions(source="sklearn/digits", image_size=32, limit=40), assembly.preprocessing)
    before = {name: tensor.clone() for name, tensor in assembly.model.train().state_dict().items()}
    head_inputs(assembly.model, linear_head(assembly.model, 10)[1], data, CPU, Speed(exact=True))
    assert all(torch.equal(tensor, before[name]) for name, tensor in assembly.model.state_dict().items())


def test_probe_measures_what_evaluate_measures(run):
    report = run("probe", "evaluate")
    probe, evaluated = report["stages"]
    assert probe["metrics"]["accuracy"] == pytest.approx(evaluated["metrics"]["accuracy"], abs=0.02)
    assert probe["metrics"]["loss"] == pytest.approx(evaluated["metrics"]["loss"], rel=0.02)


def test_ridge_probe(run):
    report = run({"probe": {"kind": "ridge", "l2": 1e-3}})
    assert report["stages"][0]["converged"]
    assert report["metrics"]["accuracy"] > 0.3  # random features; chance is 0.1


def test_heads_that_are_not_one_linear_layer_are_refused():
    for name, found in [("timm/levit_128s", "head_dist"), ("torchvision/squeezenet1_1", "Conv2d")]:
        with pytest.raises(InputError, match=found):
            linear_head(build(name, device="meta").model, 1000)


def test_class_weights_are_solved_with_measured_with_and_reported(run, tmp_path):
    plain = run("probe")["stages"][0]
    report = run({"probe": {"class_weights": {"3": 50}}})
    weighed = report["stages"][0]
    assert plain["class_weights"] is None
    assert weighed["class_weights"] == {**dict.fromkeys(map(str, range(10)), 1.0), "3": 50.0}
    measured = evaluate(tmp_path / "run" / "model.safetensors")
    assert measured["loss"] == {"CrossEntropyLoss": {"weight": list(weighed["class_weights"].values())}}
    assert measured["metrics"]["loss"] == report["evaluation"]["parts"]["validation"]["metrics"]["loss"]
    assert weighed["metrics"]["loss"] == pytest.approx(measured["metrics"]["loss"], rel=1e-4)
    rows = {row["class"]: row for row in measured["per_class"]}
    assert rows["3"]["recall"] > 0.9


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"class_weights": {"33": 2}}, "there is no class '33'"),
        ({"class_weights": {"3": -1}}, "expected a number"),
    ],
)
def test_class_weights_that_do_not_fit_are_refused(run, options, said):
    with pytest.raises(InputError, match=said):
        run({"probe": options})
