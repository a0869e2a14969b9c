"""Evaluating a checkpoint from its file: on the data it names, on other data, classes matched by name."""

import dataclasses

import pytest
import torch
from torch import nn

from zoo.api import Context
from zoo.checkpoint.save import save_checkpoint
from zoo.data.open_data import open_data
from zoo.errors import InputError
from zoo.model.build import build
from zoo.model.operations import operate
from zoo.recipe.options import DataOptions
from zoo.training.evaluate import evaluate, finite, measured_of, other_data
from zoo.training.losses import label_of
from zoo.training.predictions import predict_parts

OPTIONS = DataOptions(source="sklearn/digits", image_size=32, limit=40)


@pytest.fixture(scope="module")
def assembly():
    torch.manual_seed(0)
    made = build("timm/test_resnet")
    data = open_data(OPTIONS, made.preprocessing)
    operate(made, "swap_head", {"num_classes": "auto"}, Context(data.outputs, data.classes, data.preprocessing))
    made.classes, made.preprocessing = data.classes, data.preprocessing
    made.data = {"options": OPTIONS.model_dump(), "seed": 0}
    return made


@pytest.fixture(scope="module")
def checkpoint(assembly, tmp_path_factory):
    path = tmp_path_factory.mktemp("evaluate") / "model.safetensors"
    save_checkpoint(assembly, path)
    return path


def accuracy(assembly, batches) -> float:
    model = assembly.model.eval()
    with torch.inference_mode():
        right = [(model(batch.inputs).argmax(1) == batch.targets) for batch in batches]
    return torch.cat(right).float().mean().item()


def test_without_data_it_is_the_held_out_part_of_its_own(assembly, checkpoint):
    found = evaluate(checkpoint, device="cpu")
    data = open_data(OPTIONS, assembly.preprocessing)
    assert found["samples"] == len(data.parts["validation"])
    assert found["metrics"]["accuracy"] == pytest.approx(accuracy(assembly, data.batches("validation").epoch(0)))
    assert found["part"] == "validation"
    assert found["data"] == {"source": "sklearn/digits", "task": "classification", "outputs": 10}
    assert found["checkpoint"] == str(checkpoint)


def test_a_named_data_set_counts_with_both_parts(assembly, checkpoint):
    found = evaluate(checkpoint, "sklearn/digits", device="cpu", metrics=["f1", "top5"], batch_size=256)
    assert (found["samples"], found["part"]) == (1797, "all")
    assert set(found["metrics"]) == {"loss", "f1", "top5"}


def test_a_part_by_its_name(assembly, checkpoint):
    found = evaluate(checkpoint, part="train", device="cpu")
    assert (found["part"], found["samples"]) == ("train", 40)
    assert evaluate(checkpoint, part="all", device="cpu")["samples"] == 80
    with pytest.raises(InputError, match=r"sklearn/digits has no test part \(there is train, validation, all\)"):
        evaluate(checkpoint, part="test", device="cpu")


def test_loss_and_metrics_are_those_that_the_model_was_trained_with(assembly, tmp_path):
    weights = [1.0, 5.0] * 5
    assembly = dataclasses.replace(
        assembly, evaluation={"loss": {"cross_entropy": {"weight": weights}}, "metrics": ["top5"]}
    )
    save_checkpoint(assembly, tmp_path / "weighted.safetensors")
    found = evaluate(tmp_path / "weighted.safetensors", device="cpu", batch_size=7)
    assert list(found["metrics"]) == ["loss", "top5"]
    assert (found["loss"], label_of(found["loss"])) == ({"cross_entropy": {"weight": weights}}, "weighted loss")
    batch = next(open_data(OPTIONS, assembly.preprocessing).batches("validation", batch_size=100).epoch(0))
    with torch.no_grad():
        outputs = assembly.model.eval()(batch.inputs)
    by_torch = nn.functional.cross_entropy(outputs, batch.targets, weight=torch.tensor(weights)).item()
    assert found["metrics"]["loss"] == pytest.approx(by_torch, rel=1e-5)


def test_what_is_undefined_is_null_and_has_no_interval():
    from zoo.training.predictions import Predictions

    outputs = torch.randn(4, 2)
    predictions = Predictions(
        outputs, torch.zeros(4, dtype=torch.long), ("validation",) * 4, tuple("0123"), ("a", "b"), "classification"
    )
    measured = measured_of(predictions, ["accuracy", "auroc"])
    assert (measured.metrics["auroc"], measured.intervals["auroc"], measured.absent) == (None, None, ("b",))
    assert finite({"a": [float("inf"), 1.0, {"b": float("nan")}]}) == {"a": [None, 1.0, {"b": None}]}


def test_classes_are_matched_by_name(assembly):
    data = open_data(OPTIONS, assembly.preprocessing)
    reversed_ = open_data(OPTIONS, assembly.preprocessing).with_classes(tuple(reversed(data.classes)))
    known = other_data("sklearn/digits", assembly, seed=0)
    assert known.classes == assembly.classes
    assert reversed_.classes != data.classes
    assert [int(reversed_.parts["train"].target(value, 0)) for value in (0, 9)] == [9, 0]


def test_a_class_that_the_checkpoint_does_not_know(checkpoint, tmp_path):
    from PIL import Image

    for name in ("3", "three"):
        (tmp_path / name).mkdir()
        for number in range(2):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / name / f"{number}.png")
    with pytest.raises(InputError, match="the checkpoint does not know the class 'three'"):
        evaluate(checkpoint, str(tmp_path), device="cpu")


def test_another_task_or_no_data_are_errors(assembly, tmp_path):
    bare = build("tutorial/small_mlp")
    save_checkpoint(bare, tmp_path / "bare.safetensors")
    with pytest.raises(InputError, match=r"does not say which data it was trained on .*--data"):
        evaluate(tmp_path / "bare.safetensors", device="cpu")
    bare.task = "regression"
    with pytest.raises(InputError, match="the data is for classification, the checkpoint for regression"):
        other_data("sklearn/digits", bare, seed=0)


def test_the_model_is_measured_in_evaluation_mode_and_left_in_its_own(assembly):
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(3 * 32 * 32, 10)).train()
    data = open_data(OPTIONS, assembly.preprocessing)
    values = [predict_parts(model, data, ("train",), torch.device("cpu")).outputs for _ in range(2)]
    assert torch.equal(*values)
    assert model.training
