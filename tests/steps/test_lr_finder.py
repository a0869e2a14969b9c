"""The step `lr_finder`: it leaves no trace but what it found, and `lr: found` takes it."""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ElementTree

import pytest
import torch
import yaml
from safetensors.torch import load_file

import zoo
from listeners import Killed, Killing, Notes
from zoo.errors import WorkError
from zoo.training.callbacks import Listener

MODEL = "model: tutorial/fashion_mlp\ndata: {source: sklearn/digits, limit: 20, image_size: 28}\nsteps:\n"


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ("- lr_finder", "4:5: lr_finder: no train step follows, whose options it would train with (put it in front"),
        ("- train: {epochs: 1, lr: found}", "4:28: train.lr: found, and no lr_finder stands in front of this"),
        ("- lr_finder: {start: 1, end: 0.1}\n  - train: 1", "4:24: lr_finder.start: 1 is not below end, 0.1"),
        ("- lr_finder: 5\n  - train: 1", "lr_finder.steps"),
        ("- lr_finder\n  - train: 1\n  - train: {epochs: 1, lr: found}", "6:28: train.lr: found, and no lr_finder"),
        ("- train: {epochs: 1, lr: fnd}", "train.lr"),
    ],
)
def test_what_is_wrong_with_it(mistakes, steps, said):
    assert said in mistakes(f"{MODEL}  {steps}\n")[0]


@pytest.fixture
def run(tmp_path):
    def finetuned(name: str, *steps, progress=None, resume=False):
        recipe = {
            "model": {"architecture": "timm/test_resnet", "arguments": {"drop_rate": 0.2}},
            "data": {"source": "sklearn/digits", "image_size": 32, "limit": 60, "batch_size": 16},
            "precision": "float32",
            "steps": [{"swap_head": "auto"}, *steps],
        }
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
        return zoo.finetune(
            tmp_path / f"{name}.yaml", output=tmp_path / name, progress=progress or Listener(), resume=resume
        )

    return finetuned


def same(one, other) -> bool:
    pairs = zip(load_file(one.checkpoint).values(), load_file(other.checkpoint).values(), strict=True)
    return all(torch.equal(*pair) for pair in pairs)


def test_a_run_with_it_is_the_run_without_it(run, tmp_path):
    train = {"train": {"epochs": 1, "lr": 0.002}}
    notes = Notes()
    found, plain = run("with", {"lr_finder": 25}, train, progress=notes), run("without", train)
    assert same(found, plain)
    row = found.report["stages"][0]
    assert (row["action"], row["taken"]) == ("lr_finder", False)
    assert row["lr"] == row["suggestions"]["steepest"]
    assert any("train keeps 0.002 (lr: found takes it)" in note for note in notes.notes)
    with open(tmp_path / "with/lr_finder-2.csv") as file:
        table = list(csv.DictReader(file))
    assert [[float(value) for value in line.values()] for line in table] == row["points"]
    picture = ElementTree.parse(tmp_path / "with/lr_finder-2.svg").getroot()
    assert picture.tag.endswith("svg")
    assert any(f"steepest: {row['lr']:g}" in "".join(text.itertext()) for text in picture)
    assert "Learning rate, step 2" in (tmp_path / "with/report.html").read_text()


def test_what_it_found_is_taken_written_down_and_resumed(run, tmp_path):
    steps = ({"lr_finder": {"steps": 25, "suggest": "minimum"}}, {"train": {"epochs": 2, "lr": "found"}})
    whole = run("whole", *steps)
    lr = whole.report["stages"][0]["suggestions"]["minimum"]
    assert yaml.safe_load((tmp_path / "whole/recipe.yaml").read_text())["steps"][2]["train"]["lr"] == lr
    assert whole.report["stages"][1]["epochs"][0]["lr"] == pytest.approx(lr, rel=1)  # cosine's, within the first epoch
    assert same(run("number", {"train": {"epochs": 2, "lr": lr}}), whole)
    with pytest.raises(Killed):
        run("whole-2", *steps, progress=Killing(epoch=1))
    resumed = run("whole-2", *steps, resume=True)
    assert same(resumed, whole)
    assert resumed.report["stages"][0]["points"] == whole.report["stages"][0]["points"]


def test_it_sweeps_on_cached_features(run):
    train = {"train": {"epochs": 1, "lr": 0.01}}
    swept, trained = run("cached", {"freeze": "all_but_head"}, {"lr_finder": 20}, train).report["stages"]
    assert trained["feature_cache"]["use"] == "kept"
    assert len(swept["points"]) == 20
    assert swept["points"][0][1] == pytest.approx(swept["points"][4][1], rel=0.2)  # at rates that do nothing


def test_a_loss_that_does_not_fall_ends_the_run(run):
    with pytest.raises(
        WorkError, match=r"the loss did not clearly fall between 1e-20 and 1e-15 \(write a number for lr"
    ):
        run("flat", {"freeze": "all_but_head"}, {"lr_finder": {"steps": 20, "start": 1e-20, "end": 1e-15}},
            {"train": {"epochs": 1, "lr": "found", "optimizer": "SGD"}})  # fmt: skip
