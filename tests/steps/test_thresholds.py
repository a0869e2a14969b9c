"""The step `thresholds`: set by hand or tuned on the validation data, kept in the checkpoint, and what goes by them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.checkpoint.load import load
from zoo.checkpoint.save import describe, save_checkpoint
from zoo.contracts import Context
from zoo.errors import InputError
from zoo.formats.checkpoint_metadata import digests_of, read_metadata
from zoo.formats.safetensors_file import read_header
from zoo.model.operations import operate
from zoo.recipe.chain import step_class
from zoo.training.labels import best_threshold
from zoo.training.predict import open_predictor
from zoo.training.predictions import predict_parts

NAMES = ("red", "green", "blue")
RECIPE = """
precision: float32
model: zoo/small_cnn
data: {{source: csv, path: t.csv, label_column: [red, green, blue], image_size: 16, workers: 0}}
steps:
  - swap_head: auto
  - thresholds{}
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch) -> Path:
    """60 pictures in which red is frequent, green rare, and blue in none of the validation part."""
    monkeypatch.chdir(tmp_path)
    generator, rows = np.random.default_rng(0), ["path,red,green,blue,split"]
    for number in range(60):
        held_out = number % 3 == 0
        there = generator.random(3) < [0.6, 0.3, 0 if held_out else 0.5]
        picture = generator.integers(0, 120, (16, 16, 3)) + 100 * there
        Image.fromarray(picture.astype(np.uint8)).save(f"{number}.png")
        rows.append(",".join([f"{number}.png", *map(str, there.astype(int)), "validation" if held_out else "train"]))
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def ran(started, written: str):
    run = started(RECIPE.format(written).lstrip())
    for step in run.recipe.steps:
        step.run(run)
    return run


def test_tuned_ones_are_the_best_of_the_validation_part(table, started):
    run = ran(started, ": {value: tuned, by_class: {red: 0.7}, beta: 2}")
    found = predict_parts(run.assembly.model.eval(), run.data, ("validation",), run.device)
    green = best_threshold(found.scores[:, 1], found.targets[:, 1] >= 0.5, 2.0)
    assert run.assembly.thresholds == {"red": 0.7, "green": green, "blue": 0.5}
    record = run.stages[-1]
    assert (record["without_samples"], record["samples"], record["beta"]) == (["blue"], 20, 2.0)
    assert "no validation sample shows blue: 0.5 as without tuning" in run.listener.notes[-1]
    assert run.recipe.steps[-1].chooses == "thresholds: tuned"
    assert step_class("thresholds").row(record)["metrics"].startswith("f1 ")


def test_the_checkpoint_keeps_them_and_predictions_go_by_them(table, started):
    run = ran(started, ": {value: 0, by_class: {green: 1}}")
    assert run.assembly.thresholds == {"red": 0.0, "green": 1.0, "blue": 0.0}
    save_checkpoint(run.assembly, table / "model.safetensors")
    assert read_metadata(read_header(table / "model.safetensors").metadata, "").thresholds == run.assembly.thresholds
    again = load(table / "model.safetensors")
    assert again.thresholds == run.assembly.thresholds
    (row,) = open_predictor(table / "model.safetensors").rows([("1", "1.png")])
    assert sorted(row["labels"]) == ["blue", "red"]
    (row,) = open_predictor(table / "model.safetensors", threshold=1.0).rows([("1", "1.png")])
    assert row["labels"] == []
    assert run.memory()["thresholds"] == run.assembly.thresholds


def test_a_new_head_has_none_but_for_labels_that_it_keeps(table, started):
    run = ran(started, ": {value: 0.4, by_class: {green: 0.2}}")
    run.assembly.evaluation = {"loss": {"bce": {"pos_weight": [1, 2, 3]}}, "metrics": None}
    context = Context(2, ("Green", "violet"), run.assembly.preprocessing, "multilabel")
    operate(run.assembly, "swap_head", {"reuse": "by_label"}, context)
    assert run.assembly.thresholds == {"Green": 0.2}
    assert run.assembly.evaluation["loss"] == {"bce": {}}
    operate(run.assembly, "swap_head", {}, context)
    assert run.assembly.thresholds == {}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (": {red: 0.3}", "6:18: thresholds has no option 'red' (of one label: by_class: {red: 0.3})"),
        (": {by_class: {rde: 0.3}}", "6:29: thresholds: there is no label 'rde' (did you mean red?)"),
        (": 1.5", "6:17: thresholds"),
        (": {by_class: {red: -1}}", "6:34: thresholds.by_class.red"),
    ],
)
def test_what_is_wrong_with_them(table, mistakes, written, said):
    found = mistakes(RECIPE.format(written).lstrip())
    assert any(said in each for each in found), found


def test_they_are_for_several_labels_only(mistakes):
    (said,) = mistakes("model: tutorial/fashion_mlp\ndata: {source: sklearn/digits, limit: 20}\nsteps: [thresholds]\n")
    assert "thresholds belong to a multilabel network, and this one is for classification" in said
    assert "remove the step" in said


def test_a_threshold_for_a_classification_is_refused_when_it_runs(started):
    run = started("model: tutorial/fashion_mlp\ndata: {source: sklearn/digits, limit: 20}\nsteps: [thresholds: 0.4]\n")
    with pytest.raises(InputError, match="belong to a multilabel network"):
        run.recipe.steps[0].run(run)


def test_files_without_thresholds_keep_their_digests(table, started):
    run = ran(started, ": 0.4")
    values = describe(run.assembly).model_dump()
    without = {**values, "thresholds": {}}
    before = {key: value for key, value in without.items() if key != "thresholds"}
    assert digests_of(without, ())["classes"] == digests_of(before, ())["classes"] != digests_of(values, ())["classes"]
