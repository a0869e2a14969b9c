"""`metrics.csv` and `confusion.csv`."""

import csv

import pytest
import torch

from zoo.finetuning.tables import history, write_confusion, write_metrics_table
from zoo.training.predictions import Predictions


def stage(step, *losses, rates=(0.1,)):
    epochs = [
        {"epoch": n, "steps": 2 * n, "lr": max(rates), "lr_by_group": list(rates), "loss": loss, "seconds": 1.0}
        | {"validation": {"loss": loss / 2}}
        for n, loss in enumerate(losses, 1)
    ]
    return {"step": step, "action": "train", "epochs": epochs}


def predictions(task, outputs, targets, classes):
    count = len(targets)
    return Predictions(torch.tensor(outputs), torch.tensor(targets), ("test",) * count, ("x",) * count, classes, task)


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_every_epoch_of_every_step_is_a_row_and_every_group_a_column(tmp_path):
    stages = [stage(2, 1.0, 0.5), {"step": 3, "action": "freeze"}, stage(4, float("nan"), rates=(0.1, 0.05))]
    write_metrics_table(tmp_path / "metrics.csv", stages)
    assert read(tmp_path / "metrics.csv") == [
        ["step", "epoch", "steps", "loss", "validation_loss", "lr", "lr_1", "seconds", "lr_2"],
        ["2", "1", "2", "1.0", "0.5", "0.1", "0.1", "1.0", ""],
        ["2", "2", "4", "0.5", "0.25", "0.1", "0.1", "1.0", ""],
        ["4", "1", "2", "", "", "0.1", "0.1", "1.0", "0.05"],
    ]


def test_epochs_without_rates_by_group_are_read_too():
    assert history([{"step": 1, "action": "train", "epochs": [{"loss": 1.0, "lr": 0.1}]}]) == [
        {"step": 1, "epoch": 1, "loss": 1.0, "lr": 0.1}
    ]


def test_a_confusion_matrix_has_true_classes_in_rows(tmp_path):
    found = predictions("classification", [[2.0, 1.0], [0.0, 1.0], [0.0, 3.0]], [0, 0, 1], ("a,b", "<script>"))
    assert write_confusion(tmp_path / "confusion.csv", found)
    assert read(tmp_path / "confusion.csv") == [
        ["class", "a,b", "<script>"],
        ["a,b", "1", "1"],
        ["<script>", "0", "1"],
    ]


def test_labels_are_counted_one_by_one(tmp_path):
    found = predictions("multilabel", [[2.0, -1.0], [-3.0, 1.0]], [[1.0, 1.0], [1.0, 0.0]], ("sun", "sea"))
    assert write_confusion(tmp_path / "confusion.csv", found)
    assert read(tmp_path / "confusion.csv")[1:] == [["sun", "1", "0", "1", "0"], ["sea", "0", "1", "1", "0"]]


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_where_there_is_no_matrix_there_is_no_file(task, tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.finetuning.tables.MOST_CLASSES", 1)
    targets = [0, 1] if task == "classification" else [[0.0, 1.0], [1.0, 0.0]]
    assert not write_confusion(tmp_path / "confusion.csv", predictions(task, [[0.0, 1.0], [1.0, 0.0]], targets, ()))
    assert not list(tmp_path.iterdir())
