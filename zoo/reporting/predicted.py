"""What a run's held-out predictions add up to: errors by class, calibration, the pairs that are confused, residuals.

All of it is computed from `predictions.csv`, the file that every metric can be computed from again.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.training.intervals import shares, wilson
from zoo.training.labels import THRESHOLD

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
BINS = 15  # of the reliability diagram, equally wide, as in Guo et al., 2017
RESAMPLES, SEED = 200, 0
MOST_PAIRS = 50  # of confused classes that are listed
EXTREMES = 12  # confident mistakes, and doubtful hits
POINTS = 2000  # of a scatter plot


def predicted(
    path: Path, task: str, classes: Sequence[str], part: str, thresholds: Mapping[str, float] | None = None
) -> dict[str, Any] | None:
    """The sums of the predictions for one part of the data; None where the file has none for it.

    `{"task", "part", "samples"}` and, by task: `classes` (of each precision, recall, F1, support and their 95 %
    intervals), `pairs` (what was taken for what), `matrix` (triples of true class, predicted class and count),
    `order` (see `together`), `calibration` and `extremes`; `labels`, judged by `thresholds`; or `targets`.
    Raises OSError, ValueError and KeyError for a file that is not what a run wrote.
    """
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        header = next(reader)
        place = header.index("part")
        rows = [row for row in reader if row[place] == part]
    if not rows:
        return None
    columns: dict[str, Sequence[str]] = dict(zip(header, zip(*rows, strict=True), strict=True))
    about: dict[str, Any] = {"task": task, "part": part, "samples": len(rows)}
    if task == "classification":
        return about | _classification(columns, classes)
    return about | (_labels(columns, thresholds or {}) if task == "multilabel" else _targets(columns))


def _classification(columns: dict[str, Sequence[str]], classes: Sequence[str]) -> dict[str, Any]:
    names = list(dict.fromkeys([*classes, *columns["class"], *columns["predicted"]]))
    index = {name: place for place, name in enumerate(names)}
    true = np.array([index[name] for name in columns["class"]])
    guess = np.array([index[name] for name in columns["predicted"]])
    probability = np.array(columns["probability"], dtype=np.float64)
    matrix = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(matrix, (true, guess), 1)
    return {
        "names": names,
        "classes": by_class(matrix, names),
        "matrix": [[int(i), int(j), int(matrix[i, j])] for i, j in zip(*np.nonzero(matrix), strict=True)],
        "order": together(matrix),
        "pairs": _pairs(matrix, names),
        "calibration": calibration(probability, true == guess),
        "extremes": _extremes(columns, true == guess, probability),
    }


def by_class(matrix: Counts, names: Sequence[str]) -> list[dict[str, Any]]:
    """A row a class: support, precision, recall, F1 and the 95 % interval of each; None where it is not defined."""
    hits, support, guessed = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    return [
        {"name": name, "support": int(s), "hits": int(h)} | shares(int(h), int(g), int(s))
        for name, h, g, s in zip(names, hits, guessed, support, strict=True)
    ]


def together(matrix: Counts) -> list[int]:
    """The classes in an order in which those that are taken for each other stand side by side: the leaves of average
    linkage on how often two classes are confused."""
    if len(matrix) < 3:
        return list(range(len(matrix)))
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    rates = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    near = rates + rates.T
    distance = 2.0 - near
    np.fill_diagonal(distance, 0.0)
    ordered: list[int] = leaves_list(linkage(squareform(distance, checks=False), "average")).tolist()
    return ordered


def _pairs(matrix: Counts, names: Sequence[str]) -> list[dict[str, Any]]:
    """What was taken for what, the most frequent first."""
    errors = matrix.copy()
    np.fill_diagonal(errors, 0)
    flat = np.argsort(-errors, axis=None, kind="stable")[:MOST_PAIRS]
    support = matrix.sum(1)
    found = []
    for place in flat.tolist():
        true, guess = divmod(place, len(names))
        if count := int(errors[true, guess]):
            share = count / int(support[true])
            found.append({"class": names[true], "predicted": names[guess], "count": count, "share": share})
    return found


def calibration(probability: Floats, correct: NDArray[np.bool_]) -> dict[str, Any]:
    """The reliability diagram of the predicted class's probability, and the expected calibration error (Guo et al.,
    2017) with its bootstrap interval; 15 bins of equal width."""
    place = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    generator = np.random.default_rng(SEED)
    error = _calibration_error(place, probability, correct)
    resampled = []
    for _ in range(RESAMPLES):
        drawn = generator.integers(0, len(place), len(place))
        resampled.append(_calibration_error(place[drawn], probability[drawn], correct[drawn]))
    bins = []
    for number in range(BINS):
        inside = place == number
        if count := int(inside.sum()):
            accuracy = float(correct[inside].mean())
            low, high = wilson(accuracy, count)
            confidence = float(probability[inside].mean())
            about: dict[str, Any] = {"bin": number, "samples": count, "interval": [low, high]}
            bins.append(about | {"confidence": confidence, "accuracy": accuracy})
    interval = np.quantile(resampled, (0.025, 0.975)).tolist()
    return {"bins": bins, "error": error, "interval": interval, "confidence": float(probability.mean())}


def _calibration_error(place: Counts, probability: Floats, correct: NDArray[np.bool_]) -> float:
    gaps = np.bincount(place, weights=correct - probability, minlength=BINS)
    return float(np.abs(gaps).sum() / len(place))


def _extremes(columns: dict[str, Sequence[str]], hit: NDArray[np.bool_], probability: Floats) -> dict[str, Any]:
    """The mistakes that the model was surest of, and the hits that it was least sure of."""
    order = np.argsort(-probability, kind="stable")
    mistakes = [int(place) for place in order if not hit[place]][:EXTREMES]
    doubtful = [int(place) for place in order[::-1] if hit[place]][:EXTREMES]

    def row(place: int) -> dict[str, Any]:
        values = {key: columns[key][place] for key in ("image", "class", "predicted")}
        return {"position": place, **values, "probability": float(probability[place])}

    return {"mistakes": [row(place) for place in mistakes], "doubtful": [row(place) for place in doubtful]}


def _table(columns: dict[str, Sequence[str]]) -> tuple[list[str], Floats, Floats]:
    """Names, targets [n, k] and outputs [n, k] of a multilabel set or a regression."""
    names = [key.removeprefix("target: ") for key in columns if key.startswith("target: ")]
    targets = np.array([columns[f"target: {name}"] for name in names], dtype=np.float64).T
    outputs = np.array([columns[f"output: {name}"] for name in names], dtype=np.float64).T
    return names, targets, outputs


def _labels(columns: dict[str, Sequence[str]], thresholds: Mapping[str, float]) -> dict[str, Any]:
    """A row a label: counts from its threshold on, precision, recall, F1, average precision, and its curve."""
    names, targets, outputs = _table(columns)
    scores, there = 1 / (1 + np.exp(-np.clip(outputs, -700, 700))), targets >= THRESHOLD
    rows = []
    for place, name in enumerate(names):
        threshold = thresholds.get(name, THRESHOLD)
        found, real = scores[:, place] >= threshold, there[:, place]
        hits = int((found & real).sum())
        curve, average = precision_recall(scores[:, place], real)
        row = {"name": name, "support": int(real.sum()), "hits": hits, "threshold": threshold}
        row |= shares(hits, int(found.sum()), int(real.sum()))
        rows.append(row | {"average_precision": average, "curve": curve})
    return {"labels": rows}


def precision_recall(scores: Floats, there: NDArray[np.bool_]) -> tuple[list[list[float]], float | None]:
    """At most 100 points (recall, precision) of a label's curve, and its average precision; None without a positive."""
    if not there.any():
        return [], None
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(there[order])
    last = np.append(np.diff(scores[order]) != 0, True)  # equal scores are one threshold
    recall, precision = (hits / there.sum())[last], (hits / np.arange(1, len(hits) + 1))[last]
    average = float((np.diff(recall, prepend=0.0) * precision).sum())
    chosen = np.unique(np.linspace(0, len(recall) - 1, 100).round().astype(np.int64))
    return [[float(recall[place]), float(precision[place])] for place in chosen], average


def _targets(columns: dict[str, Sequence[str]]) -> dict[str, Any]:
    """A row a target: errors, R², and at most 2,000 pairs of true and predicted, evenly chosen."""
    names, targets, outputs = _table(columns)
    chosen = np.unique(np.linspace(0, len(targets) - 1, min(POINTS, len(targets))).round().astype(np.int64))
    rows = []
    for place, name in enumerate(names):
        true, found = targets[:, place], outputs[:, place]
        residual = found - true
        spread = float(((true - true.mean()) ** 2).sum())
        r2 = 1 - float((residual**2).sum()) / spread if spread else None
        counts, edges = np.histogram(residual[np.isfinite(residual)], bins=min(30, max(5, round(math.sqrt(len(true))))))
        rows.append(
            {
                "name": name,
                "mean_error": float(residual.mean()),
                "absolute_error": float(np.abs(residual).mean()),
                "root_mean_square_error": float(np.sqrt((residual**2).mean())),
                "r2": r2,
                "points": [[float(true[row]), float(found[row])] for row in chosen],
                "residuals": {"counts": counts.tolist(), "edges": edges.tolist()},
            }
        )
    return {"targets": rows}
