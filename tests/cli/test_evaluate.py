"""`zoo evaluate`: from the file alone, on a recipe's data, on other data."""

import json

import pytest


def test_from_the_file_alone(zoo, trained, checkpoint):
    report = json.loads((trained / "out" / "report.json").read_text())
    document = zoo("evaluate", checkpoint, "--json").json
    assert document["metrics"]["accuracy"] == pytest.approx(report["metrics"]["accuracy"])
    assert document["samples"] > 0


def test_on_a_recipes_data(zoo, trained, checkpoint):
    alone = zoo("evaluate", checkpoint, "--json").json
    named = zoo("evaluate", checkpoint, "--data", trained / "recipe.yaml", "--json").json
    assert named["samples"] == alone["samples"]
    assert named["metrics"] == alone["metrics"]


def test_on_a_data_set_all_of_it_counts(zoo, checkpoint):
    out = zoo("evaluate", checkpoint, "--data", "sklearn/digits", "--batch-size", "256").out
    assert "samples         1,797\n" in out
    assert "accuracy        0." in out


def test_another_metric(zoo, checkpoint):
    document = zoo("evaluate", checkpoint, "--metric", "F1Score", "--json").json
    assert any("f1" in name.lower() for name in document["metrics"])


def test_a_recipe_without_data(zoo, tmp_path, checkpoint):
    (tmp_path / "bare.yaml").write_text("name: x\nmodel: {architecture: torchvision/alexnet}\nsteps: [save]\n")
    outcome = zoo("evaluate", checkpoint, "--data", tmp_path / "bare.yaml")
    assert outcome.code == 2


def test_what_is_no_checkpoint(zoo, tmp_path):
    (tmp_path / "no.safetensors").write_bytes(b"no")
    outcome = zoo("evaluate", tmp_path / "no.safetensors")
    assert (outcome.code, outcome.out) == (2, "")
    assert "no.safetensors" in outcome.err
    assert "bug" not in outcome.err


def test_averaged_views(zoo, checkpoint):
    plain = zoo("evaluate", checkpoint, "--json").json
    ten = zoo("evaluate", checkpoint, "--tta", "five_crop", "--tta", "flip", "--json").json
    assert "tta" not in plain
    assert ten["tta"] == ["five_crop", "flip"]
    assert ten["samples"] == plain["samples"]
    assert ten["metrics"] != plain["metrics"]
    assert (
        "views           five_crop x flip\n" in zoo("evaluate", checkpoint, "--tta", "five_crop", "--tta", "flip").out
    )
    outcome = zoo("evaluate", checkpoint, "--tta", "flop")
    assert outcome.code == 2
    assert "test-time augmentation has no 'flop' (did you mean flip?)" in outcome.err
