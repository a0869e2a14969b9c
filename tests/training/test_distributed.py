"""Two processes on the CPU, launched as a user would: the same checkpoint as one process, and nothing twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from launching import free_port, torchrun
from safetensors.torch import load_file

RECIPE = {
    "name": "two",
    "model": {"architecture": "timm/test_vit", "arguments": {"img_size": 32, "num_classes": 10}},
    "data": {
        "source": "sklearn/digits",
        "image_size": 32,
        "batch_size": 25,
        "limit": 90,
        "augmentation": "flip",
        "channels": 1,
        "mean": "measure",
        "std": "measure",
    },
    "steps": [
        {"freeze": {"policy": "below", "module": "blocks.1"}},
        {
            "train": {
                "epochs": 2,
                "lr": 0.01,
                "accumulate": 2,
                "optimizer": {"SGD": {"momentum": 0.9}},
                "feature_cache": "off",
            }
        },
        "evaluate",
    ],
}


def launched(launcher: list[str], recipe: Path, output: Path, *more: str) -> subprocess.CompletedProcess:
    command = [*launcher, "-m", "zoo", "finetune", str(recipe), "--output", str(output), "--device", "cpu", "--json"]
    command += more
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=400)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_two_processes_train_what_one_does(tmp_path, launcher):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE))
    commands = {
        "torchrun": torchrun(),
        "accelerate": [
            *("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1"),
            *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", free_port()),
        ],
    }
    both = launched([sys.executable, *commands[launcher]], recipe, tmp_path / "both")
    assert both.returncode == 0, both.stderr
    alone = launched([sys.executable], recipe, tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    document, expected = json.loads(both.stdout), json.loads(alone.stdout)  # one document, by one process
    mine, theirs = load_file(tmp_path / "both/model.safetensors"), load_file(tmp_path / "alone/model.safetensors")
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert torch.allclose(tensor, theirs[name], atol=1e-5), name
    for stage, other in zip(document["stages"], expected["stages"], strict=True):
        assert stage["metrics"] == pytest.approx(other["metrics"], abs=1e-4)
    assert [epoch["loss"] for epoch in document["stages"][0]["epochs"]] == pytest.approx(
        [epoch["loss"] for epoch in expected["stages"][0]["epochs"]], abs=1e-4
    )
    # the step shared batches out, the end measured alone: the same batches, the same digits
    assert document["stages"][-1]["metrics"] == document["metrics"]
    assert both.stderr.count("epoch 1/2") == 1
    assert both.stderr.count("measured on 90 training images") == 1
    assert document["data"]["preprocessing"] == expected["data"]["preprocessing"]


@pytest.mark.slow
def test_each_process_keeps_its_share_of_a_trunks_outputs(tmp_path):
    """The shares together are all of the data: what is measured on them is what measuring the images gives."""
    steps = [{"freeze": "all_but_head"}, {"train": {"epochs": 4, "lr": 0.05, "optimizer": "SGD"}}, "evaluate"]
    data = {"source": "sklearn/digits", "image_size": 32, "batch_size": 24, "limit": 90}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE | {"precision": "float32", "data": data, "steps": steps}))
    two = [sys.executable, *torchrun()]
    documents = {}
    for name, launcher in {"both": two, "alone": [sys.executable]}.items():
        done = launched(launcher, recipe, tmp_path / name)
        assert done.returncode == 0, done.stderr
        documents[name] = json.loads(done.stdout)
        trained, evaluated = documents[name]["stages"]
        assert trained["feature_cache"]["method"] != "end to end"
        assert trained["metrics"] == pytest.approx({key: evaluated["metrics"][key] for key in trained["metrics"]})
    losses = {name: [epoch["loss"] for epoch in one["stages"][0]["epochs"]] for name, one in documents.items()}
    assert losses["both"] == sorted(losses["both"], reverse=True)
    assert losses["both"] == pytest.approx(losses["alone"], rel=0.05)  # the same samples in other batches
    mine, theirs = load_file(tmp_path / "both/model.safetensors"), load_file(tmp_path / "alone/model.safetensors")
    moved = {name for name, tensor in mine.items() if not torch.equal(tensor, theirs[name])}
    assert moved <= {"head.weight", "head.bias"}


@pytest.mark.slow
def test_two_processes_fine_tune_from_the_probe_that_one_does(tmp_path):
    """Both solve the same probe, share out the batches, and agree on the point of the line."""
    steps = [{"finetune_from_probe": {"epochs": 1, "lr": 1e-3, "optimizer": "SGD"}}]
    data = {"source": "sklearn/digits", "image_size": 32, "batch_size": 24, "limit": 90}
    model = {"architecture": "timm/test_resnet", "arguments": {"num_classes": 10}}  # batch norms
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"precision": "float32", "model": model, "data": data, "steps": steps}))
    two = [sys.executable, *torchrun()]
    stages = {}
    for name, launcher in {"both": two, "alone": [sys.executable]}.items():
        done = launched(launcher, recipe, tmp_path / name)
        assert done.returncode == 0, done.stderr
        (stages[name],) = json.loads(done.stdout)["stages"]
    both, alone = stages["both"], stages["alone"]
    assert both["probe"]["metrics"] == pytest.approx(alone["probe"]["metrics"], abs=1e-6)
    assert both["epochs"][0]["loss"] == pytest.approx(alone["epochs"][0]["loss"], abs=1e-4)
    assert both["alpha"] == alone["alpha"]
    for one, other in zip(both["line"]["points"], alone["line"]["points"], strict=True):
        assert one["metrics"] == pytest.approx(other["metrics"], abs=1e-4)
    mine, theirs = load_file(tmp_path / "both/model.safetensors"), load_file(tmp_path / "alone/model.safetensors")
    for name, tensor in mine.items():
        assert torch.allclose(tensor, theirs[name], atol=1e-5), name


@pytest.mark.slow
@pytest.mark.parametrize("how", ["time_budget", "--within"])
def test_two_processes_agree_on_what_the_time_is_enough_for(tmp_path, how):
    """The recipe that they leave, whose plan one process repeats, gives what they have trained."""
    train = {"epochs": 500, "lr": 0.01, "optimizer": "SGD", "feature_cache": "off"}
    steps = [{"train": train | ({"time_budget": "6s"} if how == "time_budget" else {})}]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE | {"precision": "float32", "steps": steps}))
    two = [sys.executable, *torchrun()]
    both = launched(two, recipe, tmp_path / "both", *(["--within", "20s"] if how == "--within" else []))
    assert both.returncode == 0, both.stderr
    (stage,) = json.loads(both.stdout)["stages"]
    assert stage["epochs"][-1]["steps"] == stage["plan"][-1][1] < 500 * 4
    if how == "time_budget":
        assert stage["seconds"] < 7
    alone = launched([sys.executable], tmp_path / "both" / "recipe.yaml", tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    assert json.loads(alone.stdout)["stages"][0]["plan"] == stage["plan"]
    mine, theirs = load_file(tmp_path / "both/model.safetensors"), load_file(tmp_path / "alone/model.safetensors")
    for name, tensor in mine.items():
        assert torch.allclose(tensor, theirs[name], atol=1e-3), name
