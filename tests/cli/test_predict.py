"""`zoo predict`: names and probabilities, and images that cannot be read."""

import pytest


def test_names_and_probabilities(zoo, trained, checkpoint):
    (row,) = zoo("predict", checkpoint, trained / "digit.png", "--json").json["images"]
    assert row["image"] == str(trained / "digit.png")
    probabilities = [prediction["probability"] for prediction in row["predictions"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert {prediction["label"] for prediction in row["predictions"]} <= set("0123456789")


def test_for_people(zoo, trained, checkpoint):
    out = zoo("predict", checkpoint, trained / "digit.png", "--top", "2").out
    assert out.startswith(f"{trained / 'digit.png'}  ")
    assert out.count("%") == 2


def test_a_folder(zoo, trained, checkpoint):
    rows = zoo("predict", checkpoint, trained, "--top", "10", "--json").json["images"]
    assert [row["image"] for row in rows] == [str(trained / "digit.png")]
    assert sum(prediction["probability"] for prediction in rows[0]["predictions"]) == pytest.approx(1, abs=1e-4)


def test_an_unreadable_image_is_1_and_the_others_are_done(zoo, trained, tmp_path, checkpoint):
    (tmp_path / "broken.png").write_bytes(b"not an image")
    outcome = zoo("predict", checkpoint, tmp_path / "broken.png", trained / "digit.png", "--json")
    assert outcome.code == 1
    broken, sound = outcome.json["images"]
    assert "error" in broken
    assert sound["predictions"]


def test_an_image_that_is_not_there(zoo, tmp_path, checkpoint):
    outcome = zoo("predict", checkpoint, tmp_path / "none.png")
    assert (outcome.code, outcome.out) == (2, "")
    assert "none.png" in outcome.err
