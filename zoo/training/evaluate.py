"""Evaluate a checkpoint, on the data that its file names or on other data; and the numbers of any predictions."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from accelerate import PartialState

from zoo.checkpoint.data_folder import found_from
from zoo.checkpoint.load import load
from zoo.data.open_data import OpenData, Part, open_data
from zoo.errors import InputError, Problem, ZooError, did_you_mean, listed
from zoo.model.assembly import Assembly
from zoo.recipe.options import DataOptions, Named
from zoo.training import looks
from zoo.training.devices import choose_device, process_kept
from zoo.training.intervals import Interval
from zoo.training.losses import make_loss, plain
from zoo.training.metrics import Metrics, average_loss, explained, make_metrics
from zoo.training.per_class import per_class
from zoo.training.predictions import Predictions, predict_parts
from zoo.training.tta import Views

TABLES = (".csv", ".tsv")


@dataclass(frozen=True)
class Measured:
    """What was measured on samples: `metrics`, the loss first, and the 95 % interval of each; NaN is None.

    `samples` is their number, `absent` names the classes that none of them is of, `per_class` has a row a class (see
    zoo.training.per_class).
    """

    metrics: dict[str, float | None]
    intervals: dict[str, Interval | None]
    samples: int
    absent: tuple[str, ...] = ()
    per_class: tuple[dict[str, Any], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        intervals = {name: list(pair) if pair else None for name, pair in self.intervals.items()}
        rows = {"per_class": list(self.per_class)} if self.per_class else {}
        about = {"samples": self.samples, "absent": list(self.absent), **rows}
        return {"metrics": self.metrics, "intervals": intervals, **about}


def measured_of(predictions: Predictions, metrics: Sequence[Named] | None = None, loss: Named = "auto") -> Measured:
    """The loss and the metrics of predictions: where every number that zoo reports of a finished model is made.

    The loss is the mean over the samples (the sum for one with `reduction: sum`), without label smoothing; with class
    weights, which are the loss's own, it is the weighted mean over all of them.
    """
    outputs, targets = predictions.outputs, predictions.targets
    judged: dict[str, Any] = {"thresholds": predictions.thresholds, "classes": predictions.classes}
    made = make_metrics(metrics, predictions.task, outputs[0].numel(), local=True, **judged)
    every = Metrics({"loss": average_loss(make_loss(plain(loss), predictions.task), local=True), **made.metrics})
    with explained("measuring"):
        every.update(outputs, targets)
        values = every.compute()
        intervals = every.intervals(values, outputs, targets)
    rows = tuple(per_class(predictions))
    return Measured(finite(values), finite(intervals), len(predictions), _absent(predictions), rows)


def _absent(predictions: Predictions) -> tuple[str, ...]:
    if predictions.task == "regression":
        return ()
    classes, one = predictions.classes, predictions.task == "classification"
    there = predictions.labels.bincount(minlength=len(classes)) if one else predictions.targets.sum(0)
    return tuple(name for name, count in zip(classes, there.tolist(), strict=False) if not count)


def finite(value: Any) -> Any:
    """`value` with None in place of every number that JSON does not have: NaN and the infinities."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@process_kept()
def evaluate(
    checkpoint: str | os.PathLike[str] | Assembly,
    data: str | DataOptions | None = None,
    *,
    part: str | None = None,
    metrics: Sequence[Named] | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    tta: str | Sequence[str] | None = None,
) -> dict[str, Any]:
    """A checkpoint's loss and metrics on data, each with its 95 % interval: `{"metrics": {…}, "intervals": {name: [low,
    high]}, "samples": n, "part": …, "data": {…}, "checkpoint": path}`.

    Without `data` these are held-out samples of the data it was trained on, which the file names. `data` is a recipe's
    data section (held-out samples, too), or a name: an image folder or CSV file by its path, or a data set by its
    component name; all of it counts then. `part` names one part; without it the part is that of the checkpoint's own
    numbers, the test part where there is one. Metrics and loss are those that the checkpoint's numbers are of. With
    `tta` the answers are the mean of those to several views of an image (`zoo.training.tta.Views`), which `tta` in the
    result names. Classes are matched by name. Measuring on the test part of the checkpoint's own data is recorded
    (`test_looks`). Raises InputError for a file that is no checkpoint, data or a part that is not there, or classes the
    checkpoint lacks.
    """
    views = Views.of(tta)
    where, name = choose_device(device), "the model" if isinstance(checkpoint, Assembly) else os.fspath(checkpoint)
    assembly = checkpoint if isinstance(checkpoint, Assembly) else load(checkpoint, device=where)
    opened, parts = open_for(name, assembly, data, part)
    found = predict_parts(assembly.model, opened, parts, where, batch_size=batch_size, views=views)
    found = found.judged(assembly.thresholds)
    usual, loss = asked(assembly)
    measured = measured_of(found, metrics or usual, loss)
    about: dict[str, Any] = {
        "part": parts[0] if len(parts) == 1 and not (part is None and isinstance(data, str)) else "all",
        "loss": loss,
        "data": opened.description(),
        "checkpoint": name,
    }
    if views:
        about["tta"] = list(views.words)
    if parts == ("test",) and PartialState().is_main_process:
        about["test_looks"] = looks.look(opened, f"zoo evaluate {os.path.abspath(name)}")
        if data is None and not isinstance(checkpoint, Assembly):
            looks.tell_report(checkpoint, about["test_looks"])
    return measured.as_dict() | about


def open_for(
    name: str, assembly: Assembly, data: str | DataOptions | None, part: str | None = None
) -> tuple[OpenData, tuple[Part, ...]]:
    """The data to measure the checkpoint called `name` on, and which parts of it: see `evaluate`."""
    if isinstance(data, str):
        opened = other_data(data, assembly, seed=0)
        return opened, _chosen(opened, part, tuple(opened.parts))
    opened = _own_data(name, assembly, data)
    return opened, _chosen(opened, part, (reported_part(opened, assembly),))


def asked(assembly: Assembly) -> tuple[list[Named] | None, Named]:
    """The metrics and the loss that a model is measured with, as they are named in a recipe."""
    spec = assembly.evaluation or {}
    return spec.get("metrics"), spec.get("loss", "auto")


def reported_part(data: OpenData, assembly: Assembly | None = None) -> Part:
    """The part whose numbers stand for a model: that of a checkpoint's own, else test where there is one."""
    stated = (assembly.evaluation or {}).get("part") if assembly is not None else None
    if stated in data.parts:
        return cast(Part, stated)
    return "test" if "test" in data.parts else "validation"


def _chosen(data: OpenData, part: str | None, usual: tuple[Part, ...]) -> tuple[Part, ...]:
    if part is None:
        return usual
    if part == "all":
        return tuple(data.parts)
    if part not in data.parts:
        there = listed([*data.parts, "all"])
        raise InputError(f"{data.options.source} has no {part} part", suggestion=f"there is {there}")
    return (part,)


def _own_data(checkpoint: str, assembly: Assembly, data: DataOptions | None) -> OpenData:
    stored = assembly.data or {}
    if data is None and not stored:
        message = f"{checkpoint} does not say which data it was trained on"
        raise InputError(message, suggestion="name it: --data RECIPE, a folder, a CSV file or a data set")
    options = data or found_from(stored)
    try:
        opened = open_data(options, assembly.preprocessing, seed=stored.get("seed", 0))
    except ZooError as error:
        if data is not None:
            raise
        message = f"{checkpoint} names the data that it was trained on, and it cannot be opened"
        hint = "where it is now: --data FOLDER, a CSV file or a recipe (data= in Python)"
        raise type(error)([Problem(message, None, hint), *error.problems]) from error
    return _matched(opened, assembly)


def other_data(name: str, assembly: Assembly, seed: int) -> OpenData:
    """Data by the path of an image folder or CSV file, or by the name of a data set component."""
    path = Path(name).expanduser()
    if path.is_dir():
        source, arguments = "zoo/image_folder", {"path": str(path)}
    elif path.is_file() and path.suffix.lower() in TABLES:
        source, arguments = "zoo/csv", {**_table_options(assembly), "path": str(path)}
    else:
        source, arguments = name, {}
    options = DataOptions(source=source, arguments=arguments, image_size=assembly.preprocessing.size)
    return _matched(open_data(options, assembly.preprocessing, seed=seed, whole=True), assembly)


def _table_options(assembly: Assembly) -> dict[str, Any]:
    """How to read another table: as the checkpoint's own was read, where it was one, and for its task in any case."""
    stored = (assembly.data or {}).get("options", {})
    own = stored.get("arguments", {}) if stored.get("source") == "zoo/csv" else {}
    return {**{key: value for key, value in own.items() if key not in ("validation", "test")}, "task": assembly.task}


def _matched(data: OpenData, assembly: Assembly) -> OpenData:
    """`data` with the checkpoint's class indices: matched by name, not by the order of folders."""
    if data.task != assembly.task:
        raise InputError(f"the data is for {data.task}, the checkpoint for {assembly.task}")
    if data.classes == assembly.classes or not data.classes or not assembly.classes:
        return data
    if data.task == "regression" and set(data.classes) != set(assembly.classes):
        return data  # tables may call one value by several names
    if strange := [name for name in data.classes if name not in assembly.classes]:
        message = "the checkpoint does not know the class {!r}"
        raise InputError(Problem(message.format(name), None, did_you_mean(name, assembly.classes)) for name in strange)
    return data.with_classes(assembly.classes)
