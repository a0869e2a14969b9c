"""The step `finetune_from_probe`: it starts at its probe's loss, ends at the best point of the line, and resumes."""

from __future__ import annotations

import json
import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

import zoo
from listeners import Killed, Notes
from zoo.cli import run as command
from zoo.finetuning import finetune
from zoo.model.averaging import ALPHAS
from zoo.steps import finetune_from_probe
from zoo.steps.finetune_from_probe import Line, best_point
from zoo.training import trainer as loop
from zoo.training.callbacks import Listener
from zoo.training.choosing import Criterion

NETWORK = "zoo/small_cnn"  # batch norms, and dropout in front of the head
DESTROYS = {"epochs": 1, "lr": 1.0}


class Killing(Listener):
    """Kills the run before its optimizer step `at` is saved."""

    def __init__(self, at: int, by: type[BaseException] = Killed) -> None:
        self.at, self.by = at, by

    def progressed(self, trainer, loss) -> None:
        if trainer.progress.steps == self.at:
            raise self.by


@pytest.fixture(autouse=True)
def without_pages(monkeypatch):
    """The report's pages take longer than the runs."""
    monkeypatch.setattr(finetune, "pages_written", lambda *_: nullcontext())


def recipe(step, *before, network=NETWORK, **data):
    return {
        "model": {"architecture": network},
        "data": {"source": "sklearn/digits", "image_size": 16, "limit": 160, "batch_size": 20, **data},
        "precision": "float32",
        "device": "cpu",
        "steps": [{"swap_head": "auto"}, *before, {"finetune_from_probe": step}],
    }


def finetuned(folder, step, *before, progress=None, resume=False, **more):
    zoo.finetune(recipe(step, *before, **more), output=folder, progress=progress or Listener(), resume=resume)
    return json.loads((folder / "report.json").read_text())


def tensors(folder):
    return load_file(folder / "model.safetensors")


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_the_first_loss_is_the_probes(tmp_path):
    """On a network with batch norm and dropout in front of the head; with one of these it is another."""
    still = {"epochs": 1, "lr": 1e-12, "optimizer": "SGD", "weight_decay": 0.0, "alpha": 1, "l2": 1e-3, "head_scale": 1}
    first = finetuned(tmp_path / "first", still)["stages"][-1]
    assert first["epochs"][0]["loss"] == pytest.approx(first["probe"]["train_loss"], rel=1e-5)
    assert first["epochs"][0]["validation"]["loss"] == pytest.approx(first["probe"]["metrics"]["loss"], rel=1e-5)
    for other in ({"batch_norm": "train"}, {"dropout": True}, {"head_scale": 0.5}):
        stage = finetuned(tmp_path / next(iter(other)), still | other)["stages"][-1]
        assert abs(stage["epochs"][0]["loss"] - stage["probe"]["train_loss"]) > 1e-3


def test_of_a_regression_the_probe_begins_in_full(tmp_path):
    """An eighth of a value is another value: training would begin far from its probe, and lose."""
    values = np.random.default_rng(0).uniform(0.2, 1.0, 40)
    for place, value in enumerate(values):
        Image.new("L", (16, 16), int(255 * value)).save(tmp_path / f"{place}.png")
    rows = [f"{place}.png,{value}" for place, value in enumerate(values)]
    (tmp_path / "table.csv").write_text("\n".join(["path,label", *rows]))
    still = {"epochs": 1, "lr": 1e-12, "optimizer": "SGD", "weight_decay": 0.0}
    data = {"source": "zoo/csv", "path": str(tmp_path / "table.csv"), "limit": 40}
    stage = finetuned(tmp_path / "run", still, **data)["stages"][-1]
    assert stage["epochs"][0]["loss"] == pytest.approx(stage["probe"]["train_loss"], rel=1e-4)
    far = finetuned(tmp_path / "far", still | {"head_scale": 0.125}, **data)["stages"][-1]
    assert far["epochs"][0]["loss"] > 2 * stage["epochs"][0]["loss"]


def test_norms_keep_their_statistics_and_train_their_weights(tmp_path):
    stage = finetuned(tmp_path / "run", {"epochs": 1, "lr": 1e-2, "alpha": 1})["stages"][-1]
    found = tensors(tmp_path / "run")
    counted = [name for name in found if name.endswith("num_batches_tracked")]
    assert len(counted) == 5
    assert not any(found[name] for name in counted)
    assert all(found[f"stem.1.{name}"].ne(value).any() for name, value in (("weight", 1), ("bias", 0)))
    assert stage["freeze_proof"]["tensors"] == 3 * len(counted)
    assert not zoo.load(tmp_path / "run").zoo.frozen


def test_the_best_point_of_the_line_remains(tmp_path):
    notes = Notes()
    report = finetuned(
        tmp_path / "run", {"epochs": 3, "lr": 3e-3, "l2": 1e-3, "warmup": 0, "head_scale": 1}, progress=notes
    )
    stage = report["stages"][-1]
    points = {point["alpha"]: point["metrics"]["accuracy"] for point in stage["line"]["points"]}
    assert tuple(points) == ALPHAS
    assert points[stage["alpha"]] == max(points.values()) > points[0]
    assert all(points[alpha] < max(points.values()) for alpha in ALPHAS if alpha < stage["alpha"])  # the smallest
    assert points[0] == stage["probe"]["metrics"]["accuracy"]
    assert points[1] == stage["epochs"][-1]["validation"]["accuracy"]
    # the number on the line is that of the file
    assert report["metrics"] == pytest.approx(stage["metrics"], abs=1e-6)
    assert zoo.evaluate(tmp_path / "run")["metrics"] == pytest.approx(stage["metrics"], abs=1e-6)
    assert f"alpha {stage['alpha']:g}" in notes.notes[-1] or stage["alpha"] == 1


def test_a_fine_tuning_that_lost_returns_the_probe(tmp_path):
    notes = Notes()
    report = finetuned(tmp_path / "run", DESTROYS, progress=notes)
    zoo.finetune(
        {**recipe({}), "steps": [{"swap_head": "auto"}, {"probe": {"l2": 0.01}}]},
        output=tmp_path / "probe",
        progress=Listener(),
    )
    assert report["stages"][-1]["alpha"] == 0
    assert equal(tensors(tmp_path / "run"), tensors(tmp_path / "probe"))
    assert any("fine-tuning gained nothing, the probe is what remains" in note for note in notes.notes)


def test_the_head_starts_smaller_and_ranks_alike(tmp_path):
    """The loss of training is that of an eighth of the probe's answers, the accuracy that of the probe."""
    still = {"epochs": 1, "lr": 1e-12, "optimizer": "SGD", "weight_decay": 0.0, "alpha": 1}
    small = finetuned(tmp_path / "small", still)["stages"][-1]
    assert small["line"]["points"][-1]["metrics"]["accuracy"] == small["probe"]["metrics"]["accuracy"]
    assert small["line"]["points"][-1]["metrics"]["loss"] > small["probe"]["metrics"]["loss"]
    assert small["line"]["points"][0]["metrics"]["loss"] == pytest.approx(small["probe"]["metrics"]["loss"], rel=1e-5)
    finetuned(tmp_path / "probe", {**still, "alpha": 0})
    own, probes = tensors(tmp_path / "small"), tensors(tmp_path / "probe")
    for name in ("classifier.weight", "classifier.bias"):
        assert torch.allclose(own[name], probes[name] / 8, rtol=1e-5)


def test_a_run_that_ends_in_its_first_epoch_keeps_the_probe(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOOK_SECONDS", -1)
    with pytest.raises(KeyboardInterrupt):
        finetuned(tmp_path / "run", {"epochs": 1}, progress=Killing(3, KeyboardInterrupt))
    finetuned(tmp_path / "whole", {"epochs": 1, "alpha": 0})
    assert equal(tensors(tmp_path / "run"), tensors(tmp_path / "whole"))


def test_what_keep_names_decides_on_the_line(tmp_path):
    stage = finetuned(tmp_path / "run", {"epochs": 2, "lr": 1e-2, "keep": {"best": "loss"}})["stages"][-1]
    losses = {point["alpha"]: point["metrics"]["loss"] for point in stage["line"]["points"]}
    assert stage["line"]["metric"] == "loss"
    assert losses[stage["alpha"]] == min(losses.values())


def test_a_stated_alpha_is_kept(tmp_path):
    stage = finetuned(tmp_path / "run", {"epochs": 1, "lr": 1e-3, "alpha": 0.3})["stages"][-1]
    assert stage["alpha"] == 0.3
    assert [point["alpha"] for point in stage["line"]["points"]] == [0, 0.3, 1]


@pytest.mark.parametrize("kind", ["probe", "mid-epoch", "line"])
def test_resumed_bit_for_bit(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(loop, "LOOK_SECONDS", -1)
    monkeypatch.setattr(loop, "SAVE_SECONDS", -1)
    step = {"epochs": 2, "lr": 1e-2, "ema": 0.9, "batch_norm": "train", "dropout": True}
    whole = finetuned(tmp_path / "whole", step)
    put = Line.put

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        if kind == "probe":
            patch.setattr(finetune_from_probe, "solve_probe", killed)
        if kind == "line":
            patch.setattr(Line, "put", lambda line, alpha: killed() if alpha == 0.4 else put(line, alpha))
        killing = Killing(13) if kind == "mid-epoch" else Listener()  # of 8 steps an epoch
        with pytest.raises(Killed):
            finetuned(tmp_path / "run", step, progress=killing)
    resumed = finetuned(tmp_path / "run", step, resume=True)
    assert equal(tensors(tmp_path / "run"), tensors(tmp_path / "whole"))
    for key in ("line", "alpha", "metrics"):
        assert resumed["stages"][-1][key] == whole["stages"][-1][key]
    assert resumed["stages"][-1]["probe"]["metrics"] == whole["stages"][-1]["probe"]["metrics"]


def test_a_frozen_part_stays_frozen_and_is_cached(tmp_path):
    freeze = {"freeze": {"policy": "below", "module": "blocks.1"}}
    report = finetuned(tmp_path / "run", {"epochs": 1, "lr": 1e-2}, freeze)
    stage = report["stages"][-1]
    assert stage["feature_cache"]["use"] == "kept"
    assert stage["frozen"] > 0
    assert report["metrics"] == pytest.approx(stage["metrics"], abs=1e-6)
    assert "stem.0.weight" in zoo.load(tmp_path / "run").zoo.frozen


def test_a_head_scale_that_rounds_is_a_mistake(tmp_path, capsys):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe({"epochs": 1, "head_scale": 0.3})))
    assert command(["check", str(path)]) == 2
    error = capsys.readouterr().err
    assert "head_scale: 0.3 is no power of a half" in error
    assert f"{path}:" in error
    assert "0.25" in error


@pytest.mark.parametrize(
    ("network", "before", "said"),
    [
        (NETWORK, [{"freeze": "all_but_head"}], "everything in front of the head is frozen"),
        (NETWORK, [{"freeze": "all"}], "the head classifier is frozen"),
        ("torchvision/squeezenet1_1", [], "solves one linear head"),
    ],
)
def test_a_network_without_backbone_and_head_to_train_is_a_mistake(tmp_path, capsys, network, before, said):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe({"epochs": 1}, *before, network=network)))
    assert command(["check", str(path)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert f"{path}:" in error


@pytest.mark.parametrize(
    ("values", "higher", "best"),
    [
        ([0.5, 0.7, 0.7, 0.6], True, 1),  # of equal ones the nearest to the start
        ([0.5, 0.5, 0.5], True, 0),
        ([0.5, 0.3, 0.2], False, 2),
        ([math.nan, 0.1, math.nan], True, 1),
        ([math.nan, math.nan], True, 0),  # nothing is defined: the start
    ],
)
def test_best_point(values, higher, best):
    points = [{"alpha": alpha, "metrics": {"f1": value}} for alpha, value in enumerate(values)]
    assert best_point(points, Criterion("f1", higher))["alpha"] == best
