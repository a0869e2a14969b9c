"""`zoo predict`: names and probabilities, and images that cannot be read."""

import csv
import io
import shutil
from pathlib import Path

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


def test_averaged_views(zoo, trained, checkpoint, tmp_path):
    from PIL import Image, ImageOps

    ImageOps.mirror(Image.open(trained / "digit.png")).save(tmp_path / "mirrored.png")
    shutil.copy(trained / "digit.png", tmp_path)
    rows = zoo("predict", checkpoint, tmp_path, "--top", "10", "--json").json["images"]
    own, mirrored = ({each["label"]: each["probability"] for each in row["predictions"]} for row in rows)
    ask = ("predict", checkpoint, trained / "digit.png", "--top", "10", "--tta", "flip", "--json")
    (row,) = zoo(*ask).json["images"]
    both = {each["label"]: each["probability"] for each in row["predictions"]}
    assert both == pytest.approx({label: (own[label] + mirrored[label]) / 2 for label in own}, abs=1e-5)
    assert zoo("predict", checkpoint, trained / "digit.png", "--tta", "flop").code == 2


def test_a_folder(zoo, trained, checkpoint, tmp_path):
    shutil.copy(trained / "digit.png", tmp_path)
    rows = zoo("predict", checkpoint, tmp_path, "--top", "10", "--json").json["images"]
    assert [row["image"] for row in rows] == [str(tmp_path / "digit.png")]
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


def test_paths_from_standard_input(zoo, trained, tmp_path, checkpoint, monkeypatch):
    lines = f"{trained / 'digit.png'}\n\n{tmp_path / 'none.png'}\r\n{trained / 'digit.png'}\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    outcome = zoo("predict", checkpoint, "-", "--json")
    assert outcome.code == 1
    rows = outcome.json["images"]
    assert ["error" in row for row in rows] == [False, True, False]
    assert (outcome.json["read"], outcome.json["unreadable"]) == (2, 1)
    assert "1 of 3 images could not be read" in outcome.err


def test_standard_input_without_a_path(zoo, checkpoint, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert zoo("predict", checkpoint, "-").code == 2
    assert zoo("predict", checkpoint, "-", "more.png").code == 2


def test_a_csv_file(zoo, trained, tmp_path, checkpoint):
    (tmp_path / "broken.png").write_bytes(b"not an image")
    images = (trained / "digit.png", tmp_path / "broken.png")
    outcome = zoo("predict", checkpoint, *images, "--top", "2", "--csv", tmp_path / "p.csv", "--json")
    with open(tmp_path / "p.csv", newline="") as file:
        good, bad = csv.DictReader(file)
    likely = outcome.json["images"][0]["predictions"]
    assert [good["label"], good["label 2"]] == [entry["label"] for entry in likely]
    assert float(good["probability"]) == likely[0]["probability"]
    assert bad["label"] == ""
    assert "cannot decode" in bad["error"]
    again = zoo("predict", checkpoint, *images, "--csv", tmp_path / "p.csv")
    assert (again.code, again.out) == (2, "")
    assert zoo("predict", checkpoint, *images, "--csv", tmp_path / "p.csv", "--overwrite").code == 1


def test_what_is_read_is_not_replaced(zoo, trained, tmp_path, checkpoint):
    image = shutil.copy(trained / "digit.png", tmp_path / "digit.png")
    shutil.copy(checkpoint, tmp_path / "model.safetensors")
    for option, file in (("--csv", image), ("--html", tmp_path / "model.safetensors")):
        before = Path(file).read_bytes()
        refused = zoo("predict", tmp_path / "model.safetensors", tmp_path, option, file, "--overwrite")
        assert (refused.code, refused.out) == (2, "")
        assert "is the source itself" in refused.err
        assert Path(file).read_bytes() == before


def test_what_a_folder_contains_beside_images_is_said(zoo, trained, tmp_path, checkpoint):
    shutil.copy(trained / "digit.png", tmp_path)
    for name in ("a.heic", "b.heic", "._digit.png"):
        (tmp_path / name).write_bytes(b"x")
    outcome = zoo("predict", checkpoint, tmp_path, "--json")
    assert (outcome.code, len(outcome.json["images"])) == (0, 1)
    assert outcome.err == f"{tmp_path}: passed over: 2 .heic, 1 hidden images\n"


def test_formulas_of_a_spreadsheet_stay_as_they_are_and_are_said(zoo, trained, tmp_path, checkpoint, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = '=HYPERLINK("x").png'
    shutil.copy(trained / "digit.png", name)
    shutil.copy(trained / "digit.png", "-1.png")
    outcome = zoo("predict", checkpoint, name, "./-1.png", "--csv", "p.csv")
    assert outcome.code == 0
    assert f"warning: p.csv: a spreadsheet takes {name!r}, '-1.png' for formulas: import" in outcome.err
    with open("p.csv", newline="") as file:
        assert [row["image"] for row in csv.DictReader(file)] == [name, "-1.png"]
    assert "formulas" not in zoo("predict", checkpoint, name).err


def test_a_threshold_is_for_labels_that_do_not_exclude_each_other(zoo, trained, checkpoint):
    refused = zoo("predict", checkpoint, trained / "digit.png", "--threshold", "0.3")
    assert (refused.code, refused.out) == (2, "")
    assert "multilabel" in refused.err


def test_a_page_beside_the_rows(checkpoint, trained, tmp_path, zoo):
    done = zoo("predict", checkpoint, trained / "digit.png", "--html", tmp_path / "page.html", "--json")
    label = done.json["images"][0]["predictions"][0]["label"]
    text = (tmp_path / "page.html").read_text()
    assert f"<b>{label}</b>" in text
    assert text.count("<img") == 2
    again = zoo("predict", checkpoint, trained / "digit.png", "--html", tmp_path / "page.html")
    assert again.code == 2
    assert "--overwrite" in again.err
    same = zoo("predict", checkpoint, trained / "digit.png", "--html", tmp_path / "a", "--csv", tmp_path / "a")
    assert "name the same file" in same.err
