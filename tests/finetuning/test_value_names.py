"""A regression's values have the names of their columns wherever a number of theirs is said."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo.checkpoint.load import load
from zoo.data.csv_table import csv_table
from zoo.data.open_data import open_data
from zoo.exporting.export import describe
from zoo.exporting.images import Source
from zoo.exporting.program import network_of
from zoo.recipe.options import DataOptions

COLUMNS = ["=width", "height"]


def written(folder, order):
    """A table of twelve images; its columns in this order."""
    rows = [",".join(["path", *order])]
    for place in range(12):
        values = {"=width": place + 0.5, "height": 100 - place}
        pixels = np.full((16, 16, 3), 20 * place, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{place}.png")
        rows.append(",".join([f"{place}.png", *(str(values[name]) for name in order)]))
    (folder / "sizes.csv").write_text("\n".join(rows))
    return folder


def read(folder, order):
    return csv_table(str(folder / "sizes.csv"), label_column=order)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return written(tmp_path_factory.mktemp("sizes"), COLUMNS)


@pytest.fixture(scope="module")
def run(folder):
    recipe = {
        "model": {"architecture": "zoo/small_cnn"},
        "data": {
            "source": "csv",
            "path": str(folder / "sizes.csv"),
            "label_column": COLUMNS,
            "batch_size": 6,
            "image_size": 16,
        },
        "steps": [{"swap_head": "auto"}, {"train": {"epochs": 1}}],
    }
    return zoo.finetune(recipe, output=folder / "run")


def test_in_what_a_run_leaves(run):
    with open(run.folder / "predictions.csv", newline="") as file:
        (row, *_) = csv.DictReader(file)
    assert [name for name in row if name.startswith(("target", "output"))] == [
        *(f"target: {name}" for name in COLUMNS),
        *(f"output: {name}" for name in COLUMNS),
    ]
    assert "Values: =width, height." in (run.folder / "README.md").read_text()
    assert all(f">{name}" in (run.folder / "report.html").read_text() for name in COLUMNS)


def test_in_predictions_and_exports(run, folder):
    (row,) = zoo.predict(run.checkpoint, [folder / "3.png"])
    assert [entry["label"] for entry in row["predictions"]] == COLUMNS
    assembly = load(run.checkpoint)
    network = network_of(assembly, preprocess=False, softmax=False)
    source = Source("", (), (), False, (3, 16, 16))
    assert describe(network, assembly, source)["classes"] == COLUMNS
    assert describe(network, replace(assembly, classes=()), source)["classes"] == ["value 1", "value 2"]


def test_another_table_is_read_by_its_names(run, folder, tmp_path):
    whole = zoo.evaluate(run.checkpoint, read(folder, COLUMNS))
    other = written(tmp_path, COLUMNS[::-1])
    again = zoo.evaluate(run.checkpoint, read(other, COLUMNS[::-1]))
    assert again["metrics"] == whole["metrics"]


def test_other_names_are_taken_by_their_place(run, folder, tmp_path):
    other = written(tmp_path, COLUMNS)
    (other / "sizes.csv").write_text((other / "sizes.csv").read_text().replace("height", "tall"))
    assert zoo.evaluate(run.checkpoint, read(other, ["=width", "tall"])) == zoo.evaluate(
        run.checkpoint, read(folder, COLUMNS)
    )


def test_reordered_values_have_their_own_means(folder):
    arguments = {"path": str(folder / "sizes.csv"), "label_column": COLUMNS}
    data = open_data(DataOptions(source="zoo/csv", arguments=arguments))
    turned = data.with_classes(tuple(COLUMNS[::-1]))
    assert (turned.target_mean, turned.target_std) == (data.target_mean[::-1], data.target_std[::-1])
    _, target = data.parts["train"].raw(0)
    assert torch.equal(turned.parts["train"].target(target, 0), data.parts["train"].target(target, 0).flip(0))
