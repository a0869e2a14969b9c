"""Compare two checkpoints on the same images: by how much they differ, where, and whether that is more than chance."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.checkpoint.data_folder import found_from
from zoo.checkpoint.load import load
from zoo.comparison.paired import Difference, accuracy_difference, holm, mcnemar, mean_difference, metric_difference
from zoo.data.open_data import OpenData, Part
from zoo.errors import InputError, Problem, listed
from zoo.finetuning.report import read_report
from zoo.model.assembly import Assembly
from zoo.recipe.options import DataOptions, Named
from zoo.training import looks
from zoo.training.devices import choose_device, process_kept
from zoo.training.evaluate import asked, finite, open_for
from zoo.training.folder import MODEL, checkpoint_in
from zoo.training.labels import said
from zoo.training.library_metrics import FromTorchmetrics
from zoo.training.losses import make_loss, plain
from zoo.training.metrics import Average, Metric, average_loss, make_metrics
from zoo.training.predictions import Predictions, predict_parts

PARTING = 100  # of a regression, where every answer differs: so many images are listed
Model = str | os.PathLike[str] | Assembly


@dataclass(frozen=True)
class Compared:
    """One of the two models with its data."""

    name: str
    assembly: Assembly
    data: OpenData
    parts: tuple[Part, ...]


@process_kept()
def compare(
    a: Model,
    b: Model,
    data: str | DataOptions | None = None,
    *,
    part: str | None = None,
    metrics: Sequence[Named] | None = None,
    device: str = "auto",
    batch_size: int | None = None,
) -> dict[str, Any]:
    """Two models on the same images: see `zoo.compare`. `data` is what `zoo.training.evaluate` takes."""
    where = choose_device(device)
    first, second = _read(a, where, "A"), _read(b, where, "B")
    order = _class_order(first, second)
    one, other = (Compared(name, assembly, *open_for(name, assembly, data, part)) for name, assembly in (first, second))
    _check_same_images(one, other)
    mine, its = (
        predict_parts(m.assembly.model, m.data, m.parts, where, batch_size=batch_size).judged(m.assembly.thresholds)
        for m in (one, other)
    )
    arranged = its
    if order is not None:
        thresholds = tuple(its.thresholds[place] for place in order) if its.thresholds else ()
        arranged = replace(mine, outputs=its.outputs[:, order], thresholds=thresholds)
    spec, its_spec = asked(one.assembly), asked(other.assembly)
    usual, loss = spec if spec == its_spec else (None, "auto")
    found = compare_predictions(mine, arranged, metrics or usual, loss, measured=its)
    described = {"data": one.data.description(), "parts": list(one.parts), "samples": len(mine)}
    return {"a": _described(one), "b": _described(other), **described, **found, "notes": _notes(one, other)}


def compare_predictions(
    a: Predictions,
    b: Predictions,
    metrics: Sequence[Named] | None = None,
    loss: Named = "auto",
    *,
    measured: Predictions | None = None,
) -> dict[str, Any]:
    """What differs between two models' predictions for the same samples, the classes in the same order: `{"metrics",
    "main", "better", "classes", "images"}`.

    B's numbers are those of `measured`, its predictions with the classes in its own order: a sum in another order
    would differ from `zoo evaluate`'s in the last digit.
    """
    known = make_metrics(metrics, a.task, a.outputs[0].numel(), local=True, classes=a.classes)
    loss_value = average_loss(make_loss(plain(loss), a.task), local=True)
    by_name: dict[str, Metric] = {**known.metrics, "loss": loss_value}
    differences = {name: _difference(metric, a, b, measured or b) for name, metric in by_name.items()}
    main = differences[known.main]
    gains = main.value > 0 if known.higher_is_better else main.value < 0
    return {
        "metrics": {name: finite(found.as_dict()) for name, found in differences.items()},
        "main": known.main,
        "better": ("b" if gains else "a") if main.shown and main.value else None,
        **_where(a, b),
    }


def _difference(metric: Metric, a: Predictions, b: Predictions, measured: Predictions) -> Difference:
    """B minus A, with the values that `zoo evaluate` gives for each."""
    value = _computed(metric)
    a, b, measured = (_as_judged(metric, each) for each in (a, b, measured))
    found = _paired(metric, value, a, b)
    return replace(found, a=value(a.outputs, a.targets), b=value(measured.outputs, measured.targets))


def _as_judged(metric: Metric, predictions: Predictions) -> Predictions:
    """What a metric that counts labels as there or not is computed of: which ones are, by the model's thresholds."""
    if not isinstance(metric, FromTorchmetrics) or metric.thresholds is None:
        return predictions
    return replace(predictions, outputs=predictions.present.to(predictions.outputs.dtype) * 2 - 1)


def _paired(metric: Metric, value: Callable[[Any, Any], float], a: Predictions, b: Predictions) -> Difference:
    if not isinstance(metric, Average) or metric.summed:
        return metric_difference(value, a.outputs, b.outputs, a.targets)
    (first, weights), (second, _) = (metric.each(each.outputs, each.targets) for each in (a, b))
    if not (weights == 1).all():
        return metric_difference(value, a.outputs, b.outputs, a.targets)
    if metric.share:
        return accuracy_difference((first == 1).numpy(), (second == 1).numpy())
    return mean_difference(first.double().numpy(), second.double().numpy())


def _computed(metric: Metric) -> Callable[[Any, Any], float]:
    def value(outputs: Tensor, targets: Tensor) -> float:
        metric.update(outputs, targets)
        return metric.compute()

    return value


def _where(a: Predictions, b: Predictions) -> dict[str, Any]:
    """`classes`, a row each, and `images`, a row for each one on which the models part."""
    names = list(a.classes) or [str(index) for index in range(a.outputs.shape[-1])]
    if a.task == "classification":
        return {"classes": _by_class(a, b, names), "images": _parting(a, b, names)}
    if a.task == "multilabel":
        return {"classes": _by_label(a, b, names), "images": _parting_labels(a, b, names)}
    return {"classes": [], "images": _parting_values(a, b)}


def _by_class(a: Predictions, b: Predictions, names: Sequence[str]) -> list[dict[str, Any]]:
    """Of the samples of each class, which ones each model gets right."""
    right_a, right_b = (its.outputs.argmax(-1) == a.labels for its in (a, b))
    members = [a.labels == index for index in range(len(names))]
    return _class_rows([(right_a[own], right_b[own]) for own in members], names)


def _by_label(a: Predictions, b: Predictions, names: Sequence[str]) -> list[dict[str, Any]]:
    """Of all samples, for which ones each model is right about each label."""
    right_a, right_b = (its.present == said(a.targets) for its in (a, b))
    return _class_rows(list(zip(right_a.T, right_b.T, strict=True)), names)


def _class_rows(rights: Sequence[tuple[Tensor, Tensor]], names: Sequence[str]) -> list[dict[str, Any]]:
    counts = [(int((b & ~a).sum()), int((a & ~b).sum())) for a, b in rights]
    tested = holm([mcnemar(*pair) for pair in counts])
    return [
        {
            "class": name,
            "samples": len(a),
            "a": float(a.double().mean()) if len(a) else None,
            "b": float(b.double().mean()) if len(b) else None,
            "only_a_right": lost,
            "only_b_right": gained,
            "p_value": p_value,
        }
        for name, (a, b), (gained, lost), p_value in zip(names, rights, counts, tested, strict=True)
    ]


def _parting(a: Predictions, b: Predictions, names: Sequence[str]) -> list[dict[str, Any]]:
    chosen = [its.outputs.softmax(-1).max(-1) for its in (a, b)]
    rows = (chosen[0].indices != chosen[1].indices).nonzero().flatten().tolist()
    return [
        {
            "image": a.names[row],
            "true": names[int(a.labels[row])],
            "a": names[int(chosen[0].indices[row])],
            "b": names[int(chosen[1].indices[row])],
            "a_probability": float(chosen[0].values[row]),
            "b_probability": float(chosen[1].values[row]),
        }
        for row in rows
    ]


def _parting_labels(a: Predictions, b: Predictions, names: Sequence[str]) -> list[dict[str, Any]]:
    def labels(row: Tensor) -> str:
        return "|".join(names[index] for index in row.nonzero().flatten().tolist())

    mine, its, true = a.present, b.present, said(a.targets)
    rows = (mine != its).any(-1).nonzero().flatten().tolist()
    return [
        {"image": a.names[row], "true": labels(true[row]), "a": labels(mine[row]), "b": labels(its[row])}
        for row in rows
    ]


def _parting_values(a: Predictions, b: Predictions) -> list[dict[str, Any]]:
    """The images whose values differ most, largest difference first."""
    distance = (a.outputs - b.outputs).flatten(1).norm(dim=1)
    rows = distance.argsort(descending=True, stable=True)[:PARTING].tolist()
    columns = {"true": a.targets.view_as(a.outputs), "a": a.outputs, "b": b.outputs}
    return [
        {"image": a.names[row], **{name: _plain(values[row]) for name, values in columns.items()}}
        for row in rows
        if distance[row] > 0
    ]


def _plain(values: Tensor) -> float | list[float]:
    return float(values) if values.numel() == 1 else [float(value) for value in values.flatten()]


def _read(source: Model, device: torch.device, letter: str) -> tuple[str, Assembly]:
    """What messages call a model, and the model."""
    if isinstance(source, Assembly):
        return f"model {letter}", source
    path = checkpoint_in(source)
    return str(path), load(path, device=device)


def _described(model: Compared) -> dict[str, Any]:
    return {"checkpoint": model.name, "architecture": model.assembly.architecture}


def _class_order(a: tuple[str, Assembly], b: tuple[str, Assembly]) -> list[int] | None:
    """Where B has each of A's classes, or None where both have them in the same order.

    Raises InputError for models of different tasks or classes.
    """
    (name, mine), (other, its) = a, b
    alone = f"each by itself: zoo evaluate {name}, zoo evaluate {other}"
    if mine.task != its.task:
        message = f"{name} is for {mine.task}, {other} for {its.task}: no image has an answer to both"
        raise InputError(message, suggestion=alone)
    if mine.task == "regression" and set(mine.classes) != set(its.classes):
        return None  # tables may call one value by several names
    if set(mine.classes) != set(its.classes):
        lacking = [
            (model, [own for own in knows.classes if own not in lacks.classes])
            for model, knows, lacks in ((name, mine, its), (other, its, mine))
        ]
        raise InputError(
            Problem(
                f"only {model} knows the class{'es' if len(more) > 1 else ''} {listed(map(repr, more))}", None, alone
            )
            for model, more in lacking
            if more
        )
    if mine.classes == its.classes:
        return None
    return [its.classes.index(name) for name in mine.classes]


def _check_same_images(a: Compared, b: Compared) -> None:
    """Raises InputError where the two models' own data are not the same images."""
    hint = "name the images for both: --data RECIPE, a folder, a CSV file or a data set"
    if list(a.parts) != list(b.parts):
        message = f"{a.name} has a {' and '.join(a.parts)} part of its own, {b.name} a {' and '.join(b.parts)} part"
        raise InputError(message, suggestion=hint)
    sources = [(m.data.options.source, m.data.options.arguments) for m in (a, b)]
    same = sources[0] == sources[1] and all(
        np.array_equal(a.data.parts[part].indices, b.data.parts[part].indices) for part in a.parts
    )
    if not same:
        own = [f"{m.name} those of {m.data.options.source}, split by seed {m.data.seed}" for m in (a, b)]
        raise InputError(f"the models were measured on different images: {own[0]}; {own[1]}", suggestion=hint)


def _notes(a: Compared, b: Compared) -> list[str]:
    """What a reader has to know before believing the difference."""
    notes = []
    trained = [m.name for m in (a, b) if m.assembly.data and _same_source(m)]
    if trained and a.parts == ("validation",):
        notes.append(_chosen_by_these([m for m in (a, b) if m.name in trained]))
    if trained and "train" in a.parts:
        notes.append(f"{' and '.join(trained)} trained on some of these images: held-out ones decide")
    if a.parts == ("test",):
        names = " and ".join(os.path.abspath(m.name) for m in (a, b))
        notes += filter(None, [looks.said(looks.look(a.data, f"zoo compare, {names}"))])
    return notes


def _chosen_by_these(models: Sequence[Compared]) -> str:
    """That the images compared on have chosen something before, and what, as far as the runs' reports say it."""
    chose = {model.name: _chose(Path(model.name)) for model in models}
    known = [f"{name} ({'; '.join(steps)})" for name, steps in chose.items() if steps]
    unknown = [name for name, steps in chose.items() if steps is None]
    decide = "a test part or other images (--data) decide"
    if known or unknown:
        return f"these validation images also chose {' and '.join([*known, *unknown])}, which flatters: {decide}"
    return f"validation images flatter whatever was chosen by them, as one recipe among several: {decide}"


def _chose(checkpoint: Path) -> list[str] | None:
    """What the validation images decided in the run that ended with a checkpoint; None where that is not known."""
    if checkpoint.name != MODEL:
        return None
    try:
        steps: list[str] = read_report(checkpoint.parent)["evaluation"]["chose"]
    except (InputError, KeyError, TypeError):
        return None
    return steps


def _same_source(model: Compared) -> bool:
    """Whether the images are of the data set that the model was trained on."""
    stored = found_from(model.assembly.data or {})
    options = model.data.options
    return (stored.source, stored.arguments) == (options.source, options.arguments)
