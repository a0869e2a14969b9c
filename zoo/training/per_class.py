"""Precision, recall, F1 and support of each class or label, from what a model gave for held-out samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.recipe.step import shown
from zoo.training.intervals import shares
from zoo.training.labels import THRESHOLD, said
from zoo.training.predictions import Predictions

MOST, WORST = 40, 20  # classes that a table lists; of more, so many with the lowest F1
COLUMNS = ("support", "precision", "recall", "f1", "threshold")


def per_class(predictions: Predictions) -> list[dict[str, Any]]:
    """A row a class: `class` (its name), `support` (samples of it), `precision`, `recall` and `f1`, each with its 95 %
    interval, and of a multilabel set the `threshold` that the label counts from. None where a class has no sample, or
    nothing was taken for it. A regression has no rows.
    """
    if predictions.task == "regression":
        return []
    rows = [
        {"class": name, "support": support, **shares(hits, guessed, support)}
        for name, (hits, guessed, support) in zip(predictions.class_names, _counts(predictions).tolist(), strict=True)
    ]
    if predictions.task == "multilabel":
        thresholds = predictions.thresholds or (THRESHOLD,) * len(rows)
        rows = [row | {"threshold": value} for row, value in zip(rows, thresholds, strict=True)]
    return rows


def _counts(predictions: Predictions) -> Tensor:
    """Of each class how often it was found rightly, found at all, and there: int64 [k, 3]."""
    if predictions.task == "multilabel":
        found, there = predictions.present, said(predictions.targets)
        return torch.stack([rows.sum(0) for rows in (found & there, found, there)], 1)
    width, true, guess = predictions.outputs.shape[-1], predictions.labels, predictions.outputs.argmax(-1)
    return torch.stack([rows.bincount(minlength=width) for rows in (true[true == guess], guess, true)], 1)


def class_table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Rows of `per_class` as lines for a terminal, with a header."""
    if not rows:
        return
    chosen, left = list(rows), len(rows) - WORST
    if len(rows) > MOST:  # what has no F1 is behind what has
        chosen = sorted(rows, key=lambda row: (row["f1"] is None, row["f1"]))[:WORST]
    width = max(16, *(len(row["class"]) + 2 for row in chosen))
    columns = [name for name in COLUMNS if name in rows[0]]
    yield "class".ljust(width) + "".join(name.rjust(11) for name in columns)
    for row in chosen:
        cells = (f"{row[name]:,}" if name == "support" else shown(row[name]) for name in columns)
        yield row["class"].ljust(width) + "".join(cell.rjust(11) for cell in cells)
    if len(rows) > MOST:
        yield f"and {left:,} classes with a higher F1, or none: --json has all of them"
