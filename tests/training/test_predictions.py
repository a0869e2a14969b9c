"""Predictions as one table: in the data's order whoever made them, written and read back to the last bit."""

from __future__ import annotations

import csv

import pytest
import torch
from PIL import Image
from torch import nn

from zoo.contracts import Preprocessing
from zoo.data.batches import Order
from zoo.data.open_data import open_data
from zoo.errors import InputError
from zoo.recipe.options import DataOptions
from zoo.training.losses import make_loss
from zoo.training.predictions import (
    Predictions,
    formula_warning,
    is_formula,
    predict_parts,
    read_predictions,
    sample_names,
    write_predictions,
)

CPU = torch.device("cpu")


def made(task: str = "classification", samples: int = 6) -> Predictions:
    torch.manual_seed(0)
    outputs = torch.randn(samples, 3)
    targets = {
        "classification": torch.arange(samples) % 3,
        "multilabel": (torch.rand(samples, 3) > 0.5).float(),
        "regression": torch.randn(samples, 3),
    }[task]
    parts = ("validation",) * 2 + ("test",) * (samples - 2)
    classes = () if task == "regression" else ("cat", "dog, big", "owl")
    return Predictions(outputs, targets, parts, tuple(map(str, range(samples))), classes, task)


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_they_are_read_as_they_were_written(tmp_path, task):
    predictions = made(task)
    write_predictions(tmp_path / "p.csv", predictions, make_loss("auto", task))
    read = read_predictions(tmp_path / "p.csv", predictions.classes, task)
    assert torch.equal(read.outputs, predictions.outputs)
    assert torch.equal(read.targets, predictions.targets)
    assert (read.parts, read.names, len(read.of("test"))) == (predictions.parts, predictions.names, 4)


def test_a_row_says_what_happened(tmp_path):
    predictions = made()
    loss = make_loss({"cross_entropy": {"weight": [1.0, 2.0, 5.0]}}, "classification")
    write_predictions(tmp_path / "p.csv", predictions, loss)
    with open(tmp_path / "p.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = ["image", "part", "class", "predicted", "probability", "margin", "loss", "weight"]
    assert list(rows[0]) == [*columns, "output: cat", "output: dog, big", "output: owl"]
    scores = predictions.outputs.softmax(-1).sort(descending=True)
    assert (rows[1]["image"], rows[1]["part"], rows[1]["class"]) == ("1", "validation", "dog, big")
    assert rows[1]["predicted"] == predictions.classes[scores.indices[1, 0]]
    assert float(rows[1]["probability"]) == scores.values[1, 0].item()
    assert float(rows[1]["margin"]) == (scores.values[1, 0] - scores.values[1, 1]).item()
    total = sum(float(row["loss"]) for row in rows) / sum(float(row["weight"]) for row in rows)
    assert total == pytest.approx(loss(predictions.outputs, predictions.targets).item(), rel=1e-6)


@pytest.mark.parametrize("text", ["", "image,part\n", "image,part,class\na,test,fox\n"])
def test_what_is_no_table_of_predictions(tmp_path, text):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(InputError, match=r"p.csv cannot be read as a run's predictions"):
        read_predictions(tmp_path / "p.csv", ("cat",), "classification")


def test_whole_batches_in_turn_are_those_of_one_process():
    order = Order(10, 3, seed=0, shuffle=False, rank=0, world=1)
    alone = [chunk.tolist() for chunk in order.epoch(0)]
    order.take_turns(1, 2)
    assert [chunk.tolist() for chunk in order.epoch(0)] == alone[1::2]


def test_samples_are_called_by_their_files_and_in_the_datas_order(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(5):
            Image.new("RGB", (8, 8), (number * 20, 0, 0)).save(tmp_path / "set" / name / f"{number}.png")
    options = DataOptions(source="zoo/image_folder", arguments={"path": str(tmp_path / "set")}, batch_size=3)
    data = open_data(options, Preprocessing(size=(8, 8)), whole=True)
    torch.manual_seed(0)
    predictions = predict_parts(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), data, ("train",), CPU)
    assert predictions.names == tuple(str(tmp_path / "set" / c / f"{n}.png") for c in "ab" for n in range(5))
    assert predictions.targets.tolist() == [0] * 5 + [1] * 5
    digits = open_data(DataOptions(source="sklearn/digits", limit=3))
    assert sample_names(digits.parts["train"]) == [str(i) for i in digits.parts["train"].indices]


def test_what_a_spreadsheet_would_compute():
    dangerous = ["=1+1", "+cat", "-a", "@SUM(A1)", "\t=1", "\r=1"]
    assert [name for name in (*dangerous, "-1", "+2.5e3", "a=1", "", "-inf") if is_formula(name)] == dangerous
    assert formula_warning("x.csv", ["cat", "3"]) is None
    assert formula_warning("x.csv", ["=1", "cat", "=1"]) == (
        "x.csv: a spreadsheet takes '=1' for formulas: import these columns as text"
    )
