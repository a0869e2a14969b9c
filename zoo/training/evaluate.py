"""Evaluate a checkpoint: on the data that its file names, or on other data."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import nn

from zoo.checkpoint.load import load
from zoo.data.open_data import OpenData, Part, open_data
from zoo.errors import InputError, Problem, did_you_mean
from zoo.model.assembly import Assembly
from zoo.recipe.options import DataOptions, Named
from zoo.training.devices import choose_device, process_kept
from zoo.training.losses import make_loss
from zoo.training.metrics import make_metrics, measure

WHOLE: tuple[Part, ...] = ("train", "validation")
HELD_OUT: tuple[Part, ...] = ("validation",)


@process_kept()
def evaluate(
    checkpoint: str | os.PathLike[str] | Assembly,
    data: str | DataOptions | None = None,
    *,
    metrics: Sequence[Named] | None = None,
    device: str = "auto",
    batch_size: int | None = None,
) -> dict[str, Any]:
    """A checkpoint's loss and metrics on data: `{"metrics": {…}, "samples": n, "data": {…}, "checkpoint": path}`.

    Without `data` these are the held-out samples of the data it was trained on, which the file names. `data` is a
    recipe's data section (its held-out part counts), or a name: an image folder or CSV file by its path, or a data set
    by its component name; all of it counts then. Classes are matched by name.
    Raises InputError for a file that is no checkpoint, data that is not there, or classes the checkpoint lacks.
    """
    where, name = choose_device(device), "the model" if isinstance(checkpoint, Assembly) else os.fspath(checkpoint)
    assembly = checkpoint if isinstance(checkpoint, Assembly) else load(checkpoint, device=where)
    opened, parts = data_for(assembly, data, name)
    values, samples = measure_parts(assembly.model, opened, parts, where, metrics, batch_size=batch_size)
    return {"metrics": values, "samples": samples, "data": opened.summary(), "checkpoint": name}


def data_for(
    assembly: Assembly, data: str | DataOptions | None, name: str = "the model"
) -> tuple[OpenData, tuple[Part, ...]]:
    """The data that a model is measured on, with its class indices, and which parts count; `data` is as in `evaluate`.

    `name` is what messages call the model.
    """
    if isinstance(data, str):
        return other_data(data, assembly, seed=0), WHOLE
    return _own_data(name, assembly, data), HELD_OUT


def _own_data(checkpoint: str, assembly: Assembly, data: DataOptions | None) -> OpenData:
    stored = assembly.data or {}
    if data is None and not stored:
        message = f"{checkpoint} does not say which data it was trained on"
        raise InputError(message, suggestion="name it: --data RECIPE, a folder, a CSV file or a data set")
    options = data or DataOptions.model_validate(stored["options"])
    return _matched(open_data(options, assembly.preprocessing, seed=stored.get("seed", 0)), assembly)


def other_data(name: str, assembly: Assembly, seed: int) -> OpenData:
    """Data by the path of an image folder or CSV file, or by the name of a data set component."""
    path = Path(name).expanduser()
    if path.is_dir():
        source, arguments = "zoo/image_folder", {"path": str(path)}
    elif path.is_file() and path.suffix.lower() == ".csv":
        source, arguments = "zoo/csv", {"path": str(path)}
    else:
        source, arguments = name, {}
    options = DataOptions(source=source, arguments=arguments, image_size=assembly.preprocessing.size)
    return _matched(open_data(options, assembly.preprocessing, seed=seed), assembly)


def _matched(data: OpenData, assembly: Assembly) -> OpenData:
    """`data` with the checkpoint's class indices: matched by name, not by the order of folders."""
    if data.task != assembly.task:
        raise InputError(f"the data is for {data.task}, the checkpoint for {assembly.task}")
    if data.classes == assembly.classes or not data.classes or not assembly.classes:
        return data
    if strange := [name for name in data.classes if name not in assembly.classes]:
        message = "the checkpoint does not know the class {!r}"
        raise InputError(Problem(message.format(name), None, did_you_mean(name, assembly.classes)) for name in strange)
    return data.with_classes(assembly.classes)


def measure_parts(
    model: nn.Module,
    data: OpenData,
    parts: Sequence[Part],
    device: torch.device,
    metrics: Sequence[Named] | None = None,
    *,
    batch_size: int | None = None,
) -> tuple[dict[str, float], int]:
    """The loss, the metrics and the number of samples of `parts`, each process measuring its share."""
    processes = PartialState()
    share = {"rank": processes.process_index, "world": processes.num_processes, "batch_size": batch_size}
    batches = [data.batches(part, device=device, shuffle=False, augment=False, once=True, **share) for part in parts]
    loss = make_loss("auto", data.task, device=device)
    measured = make_metrics(metrics, data.task, data.outputs, device)
    chained = itertools.chain.from_iterable(each.epoch(0) for each in batches)
    return measure(model, model, chained, loss, measured), sum(len(data.parts[part]) for part in parts)
