"""Gradual unfreezing, an optimizer state that is carried on, and timm's schedules in whole runs: killed, resumed,
shared between two processes, reported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from launching import torchrun
from safetensors.torch import load_file

from listeners import Killed, Killing, Notes
from zoo.errors import InputError
from zoo.finetuning.finetune import finetune
from zoo.training import trainer as trainer_module

FIRST = {
    "epochs": 4,
    "lr": 0.01,
    "layer_decay": 0.8,
    "ema": 0.9,
    "keep": "best",
    "unfreeze_gradually": {"every": 1, "groups": ["layer4", "layer3"]},
    "scheduler": {"CosineLRScheduler": {"cycle_limit": 2, "cycle_decay": 0.5}},
    "warmup": 2,
}
RECIPE = {
    "name": "thawing",
    "seed": 3,
    "precision": "float32",
    "model": {"architecture": "timm/test_resnet", "arguments": {"num_classes": 10}},
    "data": {"source": "sklearn/digits", "image_size": 32, "batch_size": 32, "limit": 96, "workers": 0},
    "steps": [
        {"train": FIRST},
        {"train": {"epochs": 1, "lr": 0.001, "optimizer_state": "carried"}},
    ],
}
STEPS = 3  # an epoch


def written(folder: Path, **changes) -> str:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, **changes}))
    return str(path)


def differing(first: Path, second: Path) -> list[str]:
    mine, theirs = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    assert mine.keys() == theirs.keys()
    return [name for name in mine if not torch.equal(mine[name], theirs[name])]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, dict, list[str]]:
    folder, listener = tmp_path_factory.mktemp("whole"), Notes()
    report = finetune(written(folder), output=folder / "run", progress=listener).report
    return folder / "run", report, listener.notes


def test_the_report_says_what_thawed_when_at_which_rate(whole):
    _, report, notes = whole
    first, second = report["stages"]
    assert [(row["epoch"], row["group"]) for row in first["phases"]] == [(1, "head"), (2, "layer4"), (3, "layer3")]
    counts = [row["frozen_tensors"] for row in first["phases"]]
    assert counts == sorted(counts, reverse=True)
    assert first["freeze_proof"]["tensors"] == counts[-1]
    assert not first["freeze_proof"]["moved"]
    assert first["trainable"] == sum(row["parameters"] for row in first["phases"])
    assert [(row["lr"], row["weight_decay"], row["from_epoch"]) for row in first["groups"][-2:]] == [
        (0.01, 0.01, 1),
        (0.01, 0.0, 1),
    ]
    assert first["feature_cache"]["reason"] == "unfreeze_gradually thaws the backbone while it trains"
    assert (second["carried"], second["phases"]) == (sum(row["tensors"] for row in first["phases"]), [])
    assert second["trainable"] > first["trainable"]  # what was held back for a step alone trains in the next
    assert f"train 2/2: {second['carried']} tensors go on with their moments" in notes


@pytest.mark.parametrize(
    ("stage", "step", "saves"),
    [
        *((1, 4, 0.0), (1, 6, 600.0), (2, 2, 0.0)),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((1, 1, 0.0), (1, 8, 0.0), (1, 11, 0.0), (2, 1, 600.0))
        ),
    ],
)
def test_killed_in_the_middle_of_each_phase_it_goes_on_bit_for_bit(whole, tmp_path, monkeypatch, stage, step, saves):
    monkeypatch.setattr(trainer_module, "SAVE_SECONDS", saves)  # 0: after every step, else after every epoch
    recipe, run = written(tmp_path), tmp_path / "run"
    with pytest.raises(Killed):
        finetune(recipe, output=run, progress=Killing(max(step, 1), stage=stage))
    torch.manual_seed(123)
    report = finetune(recipe, output=run, resume=True, progress=Notes()).report
    assert differing(run, whole[0]) == []
    for mine, theirs in zip(report["stages"], whole[1]["stages"], strict=True):
        for key in ("phases", "groups", "carried", "freeze_proof", "kept_epoch"):
            assert mine[key] == theirs[key], key
        assert [epoch["lr_by_group"] for epoch in mine["epochs"]] == [
            epoch["lr_by_group"] for epoch in theirs["epochs"]
        ]


def test_a_step_that_begins_again_with_another_rate_has_the_moments_it_was_given(whole, tmp_path):
    """Killed before its first epoch is complete; with the rate changed and changed back it is the same run."""
    run = tmp_path / "run"
    with pytest.raises(Killed):
        finetune(written(tmp_path), output=run, progress=Killing(2, stage=2))
    other = [
        {"train": FIRST},
        {"train": {"epochs": 1, "lr": 0.5, "unfreeze_gradually": 1, "optimizer_state": "carried"}},
    ]
    with pytest.raises(Killed):
        finetune(written(tmp_path, steps=other), output=run, resume=True, progress=Killing(1))
    report = finetune(written(tmp_path), output=run, resume=True, progress=Notes()).report
    assert differing(run, whole[0]) == []
    assert report["stages"][1]["carried"] == whole[1]["stages"][1]["carried"]


def test_what_a_state_does_not_have_is_not_asked_of_it(tmp_path):
    fresh = [{"train": {"epochs": 1}}, {"train": {"epochs": 1}}]
    carried = [{"train": {"epochs": 1}}, {"train": {"epochs": 1, "optimizer_state": "carried"}}]
    run = tmp_path / "run"
    with pytest.raises(Killed):
        finetune(written(tmp_path, steps=fresh), output=run, progress=Killing(1, stage=2))
    with pytest.raises(InputError, match="train 2: optimizer_state was not set when this run began and is 'carried'"):
        finetune(written(tmp_path, steps=carried), output=run, resume=True, progress=Notes())


def test_two_steps_with_the_state_carried_are_one_longer_step(tmp_path):
    """Where nothing but the step's end lies between them: SGD with momentum at a constant rate, on cached features, of
    which a batch has all."""
    train = {"lr": 1.0, "optimizer": {"SGD": {"momentum": 0.9}}, "scheduler": None, "seed": 5}
    data = {**RECIPE["data"], "batch_size": 96}
    weights = {}
    for name, steps in {
        "one": [{**train, "epochs": 4}],
        "carried": [{**train, "epochs": 2}, {**train, "epochs": 2, "optimizer_state": "carried"}],
        "fresh": [{**train, "epochs": 2}, {**train, "epochs": 2}],
    }.items():
        recipe = written(tmp_path, data=data, steps=[{"freeze": "all_but_head"}, *({"train": step} for step in steps)])
        report = finetune(recipe, output=tmp_path / name, progress=Notes()).report
        assert report["stages"][-1]["feature_cache"]["use"] == "kept"
        weights[name] = load_file(tmp_path / name / "model.safetensors")
    for name, values in weights["one"].items():
        assert torch.allclose(weights["carried"][name].float(), values.float(), atol=1e-5), name
    assert not torch.allclose(weights["fresh"]["fc.weight"], weights["one"]["fc.weight"], atol=1e-4)


def test_a_state_is_carried_on_from_a_step_that_builds_on_train(tmp_path):
    """And what had not thawed yet is the same everywhere on the line between probe and fine-tuned network."""
    steps = [
        {"finetune_from_probe": {"epochs": 1, "unfreeze_gradually": 1, "batch_size": 96}},
        {"train": {"epochs": 1, "max_steps": 1, "optimizer_state": "carried"}},
    ]
    first, second = finetune(written(tmp_path, steps=steps), output=tmp_path / "run", progress=Notes()).report["stages"]
    assert second["carried"] == 2  # the head's
    assert first["phases"][-1]["frozen_tensors"] == first["freeze_proof"]["tensors"] > 80


@pytest.mark.slow
def test_two_processes_thaw_what_one_does(tmp_path):
    steps = [
        {"train": {**FIRST, "optimizer": {"SGD": {"momentum": 0.9}}, "keep": "last", "clip_grad_norm": 1.0}},
        {"train": {"epochs": 1, "lr": 0.001, "optimizer": {"SGD": {"momentum": 0.9}}, "optimizer_state": "carried"}},
    ]
    recipe = written(tmp_path, steps=steps)
    reports = {}
    for name, launcher in {"both": torchrun(), "alone": []}.items():
        command = [sys.executable, *launcher, "-m", "zoo", "finetune", recipe, "--output", str(tmp_path / name)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*command, "--device", "cpu", "--json"], env=environment, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        reports[name] = json.loads(done.stdout)["stages"]
    for mine, theirs in zip(reports["both"], reports["alone"], strict=True):
        assert (mine["phases"], mine["carried"]) == (theirs["phases"], theirs["carried"])
        assert [epoch["loss"] for epoch in mine["epochs"]] == pytest.approx(
            [epoch["loss"] for epoch in theirs["epochs"]], abs=1e-4
        )
    both, alone = (load_file(tmp_path / name / "model.safetensors") for name in ("both", "alone"))
    assert [name for name in alone if not torch.allclose(both[name].float(), alone[name].float(), atol=1e-4)] == []
