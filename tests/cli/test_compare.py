"""`zoo compare`: what it prints, writes and refuses."""

import csv

import pytest

from zoo.cli.compare import verdict


@pytest.fixture
def two(checkpoint, trained):
    return checkpoint, trained / "out"


def test_the_same_model_twice(zoo, two):
    outcome = zoo("compare", *two)
    assert outcome.code == 0
    assert "no difference shown in accuracy: anything from -" in outcome.out
    assert "exact McNemar" in outcome.out
    assert "note: validation images flatter whatever was chosen by them" in outcome.out
    assert "they part" not in outcome.out
    document = zoo("compare", *two, "--json").json
    assert document["better"] is None
    assert document["images"] == []


def test_images_go_into_a_new_file(zoo, two, tmp_path):
    assert zoo("compare", *two, "--csv", tmp_path / "parted.csv").code == 0
    with open(tmp_path / "parted.csv", newline="") as stream:
        assert next(csv.reader(stream))[:4] == ["image", "true", "a", "b"]
    again = zoo("compare", *two, "--csv", tmp_path / "parted.csv")
    assert (again.code, again.out) == (2, "")
    assert "exists (name another file with --csv" in again.err
    assert "there is no folder" in zoo("compare", *two, "--csv", tmp_path / "no/parted.csv").err


def test_a_difference_in_words():
    row = {"interval": [0.011, 0.042], "difference": 0.025}
    found = {"main": "accuracy", "better": "b", "metrics": {"accuracy": row}}
    assert verdict(found) == "B is better in accuracy: the difference lies between +1.10 points and +4.20 points"
    row["interval"] = [-0.5, 0.25]
    assert verdict({"main": "mae", "better": None, "metrics": {"mae": row}}) == (
        "no difference shown in mae: anything from -0.5000 to +0.2500 is compatible with these images"
    )
