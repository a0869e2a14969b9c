"""Regression far from 0: a new head learns standardised targets, and everything that is said is in their own unit."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import zoo
from listeners import Killed, Killing
from zoo.contracts import Context
from zoo.finetuning.finetune import finetune
from zoo.model.build import build
from zoo.model.operations import operate
from zoo.model.unstandardise import Unstandardise, are_far, unstandardising
from zoo.preflight import check
from zoo.recipe import load_recipe
from zoo.training.callbacks import Listener

MEAN, STEP = 250_000.5, 1_000


def test_it_is_a_constant_scale_and_shift_in_float32():
    module = Unstandardise([252_431.0, -3.0], [2.0, 0.5])
    values = torch.tensor([[0.5, 1.0], [-1.0, 0.0]])
    assert torch.equal(module(values), torch.tensor([[252_432.0, -2.5], [252_429.0, -3.0]]))
    assert torch.equal(module(values.bfloat16()), module(values))
    assert torch.equal(module.standardised(module(values)), values)
    assert torch.equal(module(values[:, :, None, None]), module(values)[:, :, None, None])
    assert torch.equal(Unstandardise([3.0], [2.0])(values), values * 2 + 3)
    assert not module.state_dict()
    assert torch.equal(module.to(torch.bfloat16)(values), module(values))
    assert unstandardising(torch.nn.Sequential(torch.nn.Linear(2, 2), module)) is module
    assert unstandardising(torch.nn.Linear(2, 2)) is None


def test_means_without_spreads_are_none():
    with pytest.raises(ValueError, match="2 means do not fit 1 standard"):
        Unstandardise([1.0, 2.0], [1.0])


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """24 images, the brighter the dearer."""
    folder = tmp_path_factory.mktemp("prices")
    rows = ["path,label"]
    for place in range(24):
        pixels = np.random.default_rng(place).integers(0, 40, (32, 32, 3)) + 8 * place
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{place}.png")
        rows.append(f"{place}.png,{MEAN + STEP * place}")
    (folder / "prices.csv").write_text("\n".join(rows))
    return folder / "prices.csv"


def recipe(table, train, *before):
    path = table.with_name("recipe.yaml")
    steps = [{"swap_head": "auto"}, *before, {"train": {"lr": 0.03, **train}}]
    data = {"source": "zoo/csv", "path": str(table), "image_size": 32, "batch_size": 6, "workers": 0}
    path.write_text(json.dumps({"precision": "float32", "model": "timm/test_resnet", "data": data, "steps": steps}))
    return path


@pytest.fixture(scope="module")
def run(table, tmp_path_factory):
    """A frozen backbone's cached features, ten epochs."""
    chosen = recipe(table, {"epochs": 10}, {"freeze": "all_but_head"})
    return finetune(chosen, output=tmp_path_factory.mktemp("run") / "run", progress=Listener())


def test_what_is_reported_is_in_the_targets_unit(run, table):
    assert run.report["stages"][-1]["feature_cache"]["method"] == "fx"
    alone = STEP * 24 / 4  # the mean absolute error of always saying the mean
    assert run.metrics["mae"] < alone / 2
    epochs = run.report["stages"][-1]["epochs"]
    assert epochs[0]["loss"] > STEP**2  # a mean square of prices, as the validation loss is
    assert epochs[-1]["validation"]["mae"] == pytest.approx(run.metrics["mae"], rel=1e-5)
    assert zoo.evaluate(run.checkpoint)["metrics"] == run.metrics
    with open(run.folder / "predictions.csv") as file:
        rows = list(csv.DictReader(file))
    errors = [abs(float(row["target: label"]) - float(row["output: label"])) for row in rows]
    assert np.mean(errors) == pytest.approx(run.metrics["mae"])
    assert {float(row["target: label"]) % STEP for row in rows} == {MEAN % STEP}
    (predicted,) = zoo.predict(run.checkpoint, [table.with_name("12.png")])
    assert abs(predicted["predictions"][0]["value"] - MEAN - 12 * STEP) < 2 * alone


def test_the_checkpoint_gives_prices_by_itself(run):
    model = zoo.load(run.checkpoint)
    unit = unstandardising(model)
    assert unit.mean[0] == pytest.approx(MEAN + STEP * 12, abs=3 * STEP)
    assert MEAN < model.eval()(torch.zeros(1, 3, 32, 32)).item() < MEAN + 24 * STEP
    assert {name for name in load_file(run.checkpoint) if name.startswith("fc")} == {"fc.0.weight", "fc.0.bias"}


@pytest.mark.slow
def test_a_killed_run_resumes_bit_for_bit(table, tmp_path):
    chosen = recipe(table, {"epochs": 2, "optimizer": {"SGD": {"momentum": 0.9}}, "clip_grad_norm": 1.0})
    finetune(chosen, output=tmp_path / "whole", progress=Listener())
    with pytest.raises(Killed):
        finetune(chosen, output=tmp_path / "run", progress=Killing(epoch=1))
    finetune(chosen, output=tmp_path / "run", resume=True, progress=Listener())
    mine, its = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "whole"))
    assert all(torch.equal(tensor, its[name]) for name, tensor in mine.items())
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("run", "whole")]
    losses = [[epoch["loss"] for epoch in report["stages"][-1]["epochs"]] for report in reports]
    assert losses[0] == losses[1]
    assert losses[0][1] < losses[0][0] < (4 * STEP * 24) ** 2  # SGD on raw prices diverges at this rate


def test_a_probe_solves_standardised_targets(table, tmp_path):
    chosen = recipe(table, {"epochs": 1}, {"freeze": "all_but_head"})
    written = json.loads(chosen.read_text())
    chosen.write_text(json.dumps(written | {"steps": [{"swap_head": "auto"}, {"probe": {"l2": 0.1}}]}))
    done = finetune(chosen, output=tmp_path / "run", progress=Listener())
    assert done.metrics["mae"] < STEP * 6
    assert done.report["stages"][-1]["metrics"]["mae"] == pytest.approx(done.metrics["mae"], rel=1e-4)


@pytest.mark.parametrize(
    ("change", "unit"),
    [
        ({}, True),
        ({"loss": {"HuberLoss": {"delta": 2.0}}}, True),
        ({"loss": "PoissonNLLLoss"}, False),
    ],
)
def test_a_loss_that_is_not_of_differences_gets_the_targets_as_they_are(table, change, unit):
    verdict = check(load_recipe(str(recipe(table, {"epochs": 20, **change}))))
    assert (unstandardising(verdict.assembly.model) is not None) is unit
    said = [str(warning) for warning in verdict.warnings]
    assert [": targets have a mean of 26" in text for text in said] == [] if unit else [True]


def test_without_a_new_head_the_scale_is_told(table):
    chosen = recipe(table, {"epochs": 20})
    written = json.loads(chosen.read_text())
    written |= {"model": {"architecture": "timm/test_resnet", "arguments": {"num_classes": 1}}}
    chosen.write_text(json.dumps(written | {"steps": written["steps"][1:]}))
    (said,) = check(load_recipe(str(chosen))).warnings
    assert "the head gives values near 0 (put swap_head: auto in front: its head learns them standardised" in str(said)
    written["steps"][0] = {"swap_head": {"num_classes": "auto", "standardise": False}}
    chosen.write_text(json.dumps(written))
    (said,) = check(load_recipe(str(chosen))).warnings
    assert "targets have a mean of" in str(said)


@pytest.mark.parametrize(
    ("mean", "std", "far"),
    [((0.5,), (1.0,), False), ((31.0,), (1.0,), True), ((0.0,), (0.01,), True), ((0.0, 5.0), (1.0, 40.0), True)],
)
def test_only_targets_far_from_a_fresh_heads_values_are_standardised(mean, std, far):
    assert are_far(mean, std) is far
    assembly = build("zoo/small_cnn", {"num_classes": 3})
    context = Context(task="regression", num_classes=len(mean), target_mean=mean, target_std=std)
    operate(assembly, "swap_head", {"num_classes": len(mean)}, context)
    assert (unstandardising(assembly.model) is not None) is far
