"""Compare two checkpoints on the same images: by how much they differ, where, and whether that is more than chance."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.checkpoint.load import load
from zoo.comparison.answers import Answers, answers_of
from zoo.comparison.paired import Difference, accuracy_difference, holm, mcnemar, mean_difference, metric_difference
from zoo.data.open_data import OpenData, Part
from zoo.errors import InputError, Problem, listed
from zoo.model.assembly import Assembly
from zoo.recipe.options import DataOptions, Named
from zoo.training.devices import choose_device, process_kept
from zoo.training.evaluate import opened
from zoo.training.folder import checkpoint_in
from zoo.training.losses import make_loss
from zoo.training.metrics import Average, Metric, make_metrics

PARTING = 100  # of a regression, where every answer differs: so many images are listed
Model = str | os.PathLike[str] | Assembly


@dataclass(frozen=True)
class Compared:
    """One of the two models with its data."""

    name: str
    assembly: Assembly
    data: OpenData
    parts: Sequence[Part]


@process_kept()
def compare(
    a: Model,
    b: Model,
    data: str | DataOptions | None = None,
    *,
    metrics: Sequence[Named] | None = None,
    device: str = "auto",
    batch_size: int | None = None,
) -> dict[str, Any]:
    """Two models on the same images: see `zoo.compare`. `data` is what `zoo.training.evaluate` takes."""
    where = choose_device(device)
    first, second = _read(a, where, "A"), _read(b, where, "B")
    order = _class_order(first, second)
    one, other = (Compared(name, assembly, *opened(name, assembly, data)) for name, assembly in (first, second))
    _check_same_images(one, other)
    mine, its = (answers_of(m.assembly.model, m.data, m.parts, where, batch_size=batch_size) for m in (one, other))
    if order is not None:
        its = Answers(its.outputs[:, order], mine.targets, mine.images)
    names = one.assembly.classes or one.data.classes
    found = compare_answers(mine, its, one.data.task, names, metrics)
    described = {"data": one.data.summary(), "parts": list(one.parts), "samples": len(mine.targets)}
    return {"a": _described(one), "b": _described(other), **described, **found, "notes": _notes(one, other)}


def compare_answers(
    a: Answers, b: Answers, task: str, classes: Sequence[str], metrics: Sequence[Named] | None = None
) -> dict[str, Any]:
    """What differs between two models' answers for the same samples: `{"metrics", "better", "classes", "images"}`."""
    measured = make_metrics(metrics, task, a.outputs.shape[-1])
    loss = make_loss("auto", task)
    total = Average(lambda o, t: loss.total(loss(o, t), len(t)), higher_is_better=False, summed=loss.summed)
    by_name: dict[str, Metric] = {**measured.metrics, "loss": total}
    differences = {name: _difference(metric, a, b) for name, metric in by_name.items()}
    main = differences[measured.main]
    gains = main.value > 0 if measured.higher_is_better else main.value < 0
    return {
        "metrics": {name: found.as_dict() for name, found in differences.items()},
        "main": measured.main,
        "better": ("b" if gains else "a") if main.shown and main.value else None,
        **_where(a, b, task, classes),
    }


def _difference(metric: Metric, a: Answers, b: Answers) -> Difference:
    if not isinstance(metric, Average) or metric.summed:
        return metric_difference(_computed(metric), a.outputs, b.outputs, a.targets)
    first, second = _each(metric, a), _each(metric, b)
    if np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all():
        return accuracy_difference(first == 1, second == 1)
    return mean_difference(first, second)


def _computed(metric: Metric) -> Callable[[Any, Any], float]:
    def value(outputs: Tensor, targets: Tensor) -> float:
        metric.update(outputs, targets)
        return float(metric.compute())

    return value


def _each(metric: Average, answers: Answers) -> Any:
    """The metric's value for each sample."""
    value = _computed(metric)
    rows = zip(answers.outputs.split(1), answers.targets.split(1), strict=True)
    return np.array([value(output, target) for output, target in rows])


def _where(a: Answers, b: Answers, task: str, classes: Sequence[str]) -> dict[str, Any]:
    """`classes`, a row each, and `images`, a row for each one on which the models part."""
    names = list(classes) or [str(index) for index in range(a.outputs.shape[-1])]
    if task == "classification":
        return {"classes": _by_class(a, b, names), "images": _parting(a, b, names)}
    if task == "multilabel":
        return {"classes": _by_label(a, b, names), "images": _parting_labels(a, b, names)}
    return {"classes": [], "images": _parting_values(a, b)}


def _by_class(a: Answers, b: Answers, names: Sequence[str]) -> list[dict[str, Any]]:
    """Of the samples of each class, which ones each model gets right."""
    right_a, right_b = (answers.outputs.argmax(-1) == a.targets for answers in (a, b))
    members = [a.targets == index for index in range(len(names))]
    return _class_rows([(right_a[own], right_b[own]) for own in members], names)


def _by_label(a: Answers, b: Answers, names: Sequence[str]) -> list[dict[str, Any]]:
    """Of all samples, for which ones each model is right about each label."""
    right_a, right_b = ((answers.outputs > 0) == (a.targets > 0.5) for answers in (a, b))
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


def _parting(a: Answers, b: Answers, names: Sequence[str]) -> list[dict[str, Any]]:
    chosen = [answers.outputs.softmax(-1).max(-1) for answers in (a, b)]
    rows = (chosen[0].indices != chosen[1].indices).nonzero().flatten().tolist()
    return [
        {
            "image": a.images[row],
            "true": names[int(a.targets[row])],
            "a": names[int(chosen[0].indices[row])],
            "b": names[int(chosen[1].indices[row])],
            "a_probability": float(chosen[0].values[row]),
            "b_probability": float(chosen[1].values[row]),
        }
        for row in rows
    ]


def _parting_labels(a: Answers, b: Answers, names: Sequence[str]) -> list[dict[str, Any]]:
    def labels(row: Tensor) -> str:
        return "|".join(names[index] for index in row.nonzero().flatten().tolist())

    mine, its, true = a.outputs > 0, b.outputs > 0, a.targets > 0.5
    rows = (mine != its).any(-1).nonzero().flatten().tolist()
    return [
        {"image": a.images[row], "true": labels(true[row]), "a": labels(mine[row]), "b": labels(its[row])}
        for row in rows
    ]


def _parting_values(a: Answers, b: Answers) -> list[dict[str, Any]]:
    """The images whose values differ most, largest difference first."""
    distance = (a.outputs - b.outputs).flatten(1).norm(dim=1)
    rows = distance.argsort(descending=True, stable=True)[:PARTING].tolist()
    columns = {"true": a.targets.view_as(a.outputs), "a": a.outputs, "b": b.outputs}
    return [
        {"image": a.images[row], **{name: _plain(values[row]) for name, values in columns.items()}}
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
    trained = [m for m in (a, b) if m.assembly.data and _same_source(m)]
    chose = [m.name for m in trained if "validation" in m.parts]
    if list(a.parts) == ["validation"] and chose:
        notes.append(
            f"these are the validation images by which {' and '.join(chose)} was chosen (epoch, settings, recipe): "
            "the difference may be flattered; a test part or other images (--data) decide"
        )
    seen = [m.name for m in trained if "train" in m.parts]
    if seen:
        notes.append(f"{' and '.join(seen)} was trained on some of these images: held-out ones decide")
    return notes


def _same_source(model: Compared) -> bool:
    """Whether the images are of the data set that the model was trained on."""
    stored = DataOptions.model_validate((model.assembly.data or {})["options"])
    options = model.data.options
    return (stored.source, stored.arguments) == (options.source, options.arguments)
