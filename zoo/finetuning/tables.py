"""A run's numbers as tables: every epoch (`metrics.csv`), and which class is taken for which (`confusion.csv`)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.formats.files import atomic_file, write_all
from zoo.training.evaluate import finite
from zoo.training.labels import said
from zoo.training.predictions import Predictions

MOST_CLASSES = 2000  # of a confusion matrix that is written: 4 million cells
LABEL_COLUMNS = ("label", "true positive", "false positive", "false negative", "true negative")


def train_stages(stages: Iterable[Mapping[str, Any]]) -> list[Any]:
    """Of a report's records those of steps that train over epochs, `train` and what builds on it."""
    return [stage for stage in stages if "epochs" in stage]


def history(stages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One flat row an epoch, over all train steps of a report.

    `step` is the number of the step in the recipe and `epoch` counts within it, both from 1; `loss` is the training
    loss, what was measured on the validation data begins with `validation_`, and `lr_1`, `lr_2`, … are the learning
    rates of the parameter groups.
    """
    return [
        _row(stage["step"], number, epoch)
        for stage in train_stages(stages)
        for number, epoch in enumerate(stage["epochs"], 1)
    ]


def _row(step: int, number: int, epoch: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: epoch[name] for name in ("steps", "loss") if name in epoch}
    measured = {f"validation_{name}": value for name, value in (epoch.get("validation") or {}).items()}
    rates = {f"lr_{place}": value for place, value in enumerate(epoch.get("lr_by_group") or (), 1)}
    nested = ("epoch", "validation", "lr", "lr_by_group", *own)
    rest = {name: value for name, value in epoch.items() if name not in nested}
    return {"step": step, "epoch": number, **own, **measured, "lr": epoch.get("lr"), **rates, **rest}


def write_metrics_table(path: Path, stages: Iterable[Mapping[str, Any]]) -> None:
    """Replace `metrics.csv`: the rows of `history`, with every column that any of them has; undefined is empty."""
    rows = finite(history(stages))
    columns = list(dict.fromkeys(name for row in rows for name in row)) or ["step", "epoch"]
    write_table(path, [columns, *([row.get(name) for name in columns] for row in rows)])


def confusion_matrix(predictions: Predictions) -> Tensor:
    """How often a sample of class i was taken for class j, int64 [k, k]."""
    width = predictions.outputs.shape[-1]
    places = predictions.labels * width + predictions.outputs.argmax(-1)
    return places.bincount(minlength=width * width).view(width, width)


def label_counts(predictions: Predictions) -> Tensor:
    """Of each label true positives, false positives, false negatives and true negatives, int64 [k, 4]."""
    found, there = predictions.present, said(predictions.targets)
    counts = [(found & there).sum(0), (found & ~there).sum(0), (~found & there).sum(0), (~found & ~there).sum(0)]
    return torch.stack(counts, 1)


def write_confusion(path: Path, predictions: Predictions) -> bool:
    """Write `confusion.csv`, and say whether there is one.

    Of a classification it is the matrix: a row a true class, a column a predicted one. Of a multilabel set it is a row
    a label with its four counts. There is none of a regression, and of more than 2,000 classes.
    """
    names, width = predictions.class_names, predictions.outputs[0].numel()
    if predictions.task == "regression" or (predictions.task == "classification" and width > MOST_CLASSES):
        return False
    if predictions.task == "classification":
        header, counts = ["class", *names], confusion_matrix(predictions)
    else:
        header, counts = list(LABEL_COLUMNS), label_counts(predictions)
    write_table(path, [header, *([name, *row] for name, row in zip(names, counts.tolist(), strict=True))])
    return True


def write_table(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """A CSV file of `rows`, the first the header; completely or not at all."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    with atomic_file(path) as file:
        write_all(file, text.getvalue().encode("utf-8", "backslashreplace"), 0)


def read_table(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a CSV file by column. Raises OSError and ValueError where it cannot be read."""
    with open(path, encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)
