"""Evaluating a checkpoint from its file: on the data it names, on other data, classes matched by name."""

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
from zoo.training.evaluate import evaluate, measure_parts, other_data

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
    assert found["data"] == data.summary()
    assert found["checkpoint"] == str(checkpoint)


def test_a_named_data_set_counts_with_both_parts(assembly, checkpoint):
    found = evaluate(checkpoint, "sklearn/digits", device="cpu", metrics=["f1", "top5"], batch_size=256)
    assert found["samples"] == 1797
    assert set(found["metrics"]) == {"loss", "f1", "top5"}


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
    values = [measure_parts(model, data, ("train",), torch.device("cpu"))[0] for _ in range(2)]
    assert values[0] == values[1]
    assert model.training
