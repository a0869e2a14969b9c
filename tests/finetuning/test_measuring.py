"""What a run says of its model: one value on the screen, in the report, in the checkpoint and from `zoo evaluate`."""

from __future__ import annotations

import csv
import json

import pytest
import torch
import yaml

import zoo
from zoo.finetuning import ending
from zoo.finetuning.report import summary
from zoo.formats.checkpoint_metadata import read_metadata
from zoo.formats.safetensors_file import read_header
from zoo.training.callbacks import Listener
from zoo.training.evaluate import measured_of
from zoo.training.predictions import read_predictions

HEAD = [{"swap_head": {"num_classes": "auto"}}, {"freeze": "all_but_head"}]
SMOOTH = {"epochs": 2, "lr": 0.01, "label_smoothing": 0.1, "metrics": ["accuracy", "f1"]}
DATA = {"source": "sklearn/digits", "image_size": 32, "batch_size": 32, "limit": 80}


def carried_out(folder, **changes):
    recipe = {"model": {"architecture": "timm/test_resnet"}, "data": DATA, "steps": [*HEAD, {"train": SMOOTH}]}
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**recipe, **changes}))
    return zoo.finetune(folder / "recipe.yaml", output=folder / "run", progress=Listener())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """On cached features, with label smoothing and a test part."""
    return carried_out(tmp_path_factory.mktemp("measured"), data={**DATA, "test_fraction": 0.25})


@pytest.fixture(scope="module")
def rounded(tmp_path_factory):
    """The same in bfloat16, without a test part, the best epoch kept."""
    steps = [*HEAD, {"train": {**SMOOTH, "precision": "bfloat16", "keep": "best"}}]
    return carried_out(tmp_path_factory.mktemp("rounded"), steps=steps)


@pytest.mark.parametrize("which", ["run", "rounded"])
def test_four_numbers_are_one(which, request):
    run = request.getfixturevalue(which)
    report = json.loads((run.folder / "report.json").read_text())
    stored = read_metadata(read_header(run.checkpoint).metadata, run.checkpoint)
    again = zoo.evaluate(run.checkpoint, device="cpu")
    assert set(again["metrics"]) == {"loss", "accuracy", "f1"}
    assert again["metrics"] == report["metrics"] == run.metrics == stored.metrics
    part = report["evaluation"]["parts"][report["evaluation"]["part"]]
    for key in ("metrics", "intervals", "samples"):
        assert again[key] == part[key]
    assert (stored.evaluation["part"], stored.evaluation["intervals"]) == (again["part"], again["intervals"])
    shown = summary(report)
    assert all(f"{name} {value:.4f} (" in shown for name, value in report["metrics"].items())
    for name, (low, high) in again["intervals"].items():
        assert low <= report["metrics"][name] <= high


def test_the_test_part_reports_once_and_a_second_look_is_recorded(run):
    report = run.report["evaluation"]
    assert (report["part"], list(report["parts"])) == ("test", ["validation", "test"])
    assert [row["by"] for row in report["test_looks"]][-1] == f"zoo finetune, {run.folder.resolve()}"
    before = len(json.loads((run.folder / "report.json").read_text())["evaluation"]["test_looks"])
    zoo.evaluate(run.checkpoint, part="validation", device="cpu")
    looked = zoo.evaluate(run.checkpoint, part="test", device="cpu")["test_looks"]
    assert len(looked) == before + 1
    assert json.loads((run.folder / "report.json").read_text())["evaluation"]["test_looks"] == looked
    assert f"test: look number {before + 1} on this machine" in summary(
        json.loads((run.folder / "report.json").read_text())
    )


def test_validation_that_chose_says_so(run, rounded):
    assert run.report["evaluation"]["chose"] == []
    assert rounded.report["evaluation"]["chose"] == ["step 3: keep: best"]
    assert "validation also chose (step 3: keep: best), so new images do worse" in summary(rounded.report)
    assert "also chose" not in summary(run.report)


def test_what_the_loop_shows_is_marked_where_it_may_differ(rounded):
    (stage,) = [stage for stage in rounded.report["stages"] if stage["action"] == "train"]
    assert "bfloat16" in stage["measured_with"]
    assert "~ accuracy" in summary(rounded.report)
    assert stage["metrics"]["loss"] == pytest.approx(rounded.metrics["loss"], rel=0.05)  # no smoothing in either


def test_predictions_hold_what_the_metrics_are_made_of(run):
    with open(run.folder / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    evaluation = run.report["evaluation"]
    for part, measured in evaluation["parts"].items():
        mine = [row for row in rows if row["part"] == part]
        assert len(mine) == measured["samples"]
        assert sum(row["class"] == row["predicted"] for row in mine) / len(mine) == measured["metrics"]["accuracy"]
        assert sum(float(row["loss"]) for row in mine) / len(mine) == pytest.approx(
            measured["metrics"]["loss"], rel=1e-12
        )
    read = read_predictions(run.folder / "predictions.csv", tuple("0123456789"), "classification")
    assert measured_of(read.of("test"), ["accuracy", "f1"]).metrics == run.metrics


def test_the_tensors_are_those_of_the_model(run):
    loaded = zoo.load(run.checkpoint)
    assert all(
        torch.equal(mine, its)
        for mine, its in zip(run.model.state_dict().values(), loaded.state_dict().values(), strict=True)
    )


def test_a_model_that_cannot_be_measured_is_not_lost(tmp_path, monkeypatch):
    def failing(*arguments, **keywords):
        raise zoo.WorkError("image t.png cannot be read")

    monkeypatch.setattr(ending, "measure_checkpoint", failing)
    with pytest.raises(zoo.WorkError, match=r"model.safetensors is written, but could not be measured") as caught:
        carried_out(tmp_path, steps=[*HEAD, {"train": {"max_steps": 1}}])
    assert "image t.png cannot be read" in str(caught.value)
    assert zoo.load(tmp_path / "run" / "model.safetensors") is not None
    assert json.loads((tmp_path / "run" / "report.json").read_text())["evaluation"] is None


def test_a_new_head_takes_the_names_of_the_data(tmp_path):
    run = carried_out(tmp_path, steps=HEAD[:1])
    assert run.model.zoo.classes == tuple("0123456789")
    assert (run.report["evaluation"], run.metrics) == (None, {})
