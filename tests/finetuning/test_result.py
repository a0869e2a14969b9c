"""`Run`: what `zoo.finetune` gives back."""

import copy
import dataclasses
import json

import pytest
import torch
import yaml

import zoo
from zoo.training.callbacks import Listener

STEPS = [
    {"swap_head": {"num_classes": "auto"}},
    {"freeze": "all_but_head"},
    {"train": {"epochs": 2, "lr": 0.01}},
    {"freeze": "none"},
    {"train": {"epochs": 1, "lr": 0.001}},
]
RECIPE = {
    "model": {"architecture": "timm/test_resnet"},
    "data": {"source": "sklearn/digits", "image_size": 32, "batch_size": 32, "limit": 80},
    "steps": STEPS,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("result")
    (folder / "small.yaml").write_text(yaml.safe_dump(RECIPE))
    return zoo.finetune(folder / "small.yaml", output=folder / "run", progress=Listener())


def test_the_report_is_the_file(run):
    assert run.report == json.loads((run.folder / "report.json").read_text())
    assert run.checkpoint == run.folder / "model.safetensors"
    assert run.metrics == run.report["metrics"]
    assert set(run.metrics) == {"loss", "accuracy"}


def test_history_has_one_flat_row_an_epoch_over_all_train_steps(run):
    assert [(row["step"], row["epoch"]) for row in run.history] == [(3, 1), (3, 2), (5, 1)]
    for row in run.history:
        assert {"loss", "lr", "images_per_second", "validation_loss", "validation_accuracy"} <= set(row)
        assert all(isinstance(value, int | float) for value in row.values())
    assert run.history[-1]["validation_accuracy"] == run.metrics["accuracy"]


def test_the_model_is_the_checkpoints(run):
    inputs = torch.rand(2, 3, 32, 32)
    assert not run.model.training
    assert run.model is run.model
    assert run.model.zoo.classes == tuple("0123456789")
    with torch.no_grad():
        assert torch.equal(run.model(inputs), zoo.load(run.checkpoint)(inputs))


def test_the_layout_of_training_is_not_left_in_the_model(run):
    assembly = copy.deepcopy(run.assembly)
    assembly.model.to(memory_format=torch.channels_last)
    model = dataclasses.replace(run, assembly=assembly).model
    assert all(parameter.is_contiguous() for parameter in model.parameters())


def test_a_finished_run_that_is_resumed_has_its_model_too(run):
    again = zoo.finetune(run.folder.parent / "small.yaml", output=run.folder, resume=True, progress=Listener())
    assert again.report == run.report
    assert again.history == run.history
    inputs = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again.model(inputs), run.model(inputs))
