"""What is found out about the values of images: how deep they are, and on request their range, mean and deviation."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from zoo.data.decode import natural_type
from zoo.data.open_data import OpenData
from zoo.errors import InputError, ZooError, listed

MEASURABLE = ("range", "mean", "std")
DIGITS = 6  # significant ones: the recipe that a run leaves has these numbers, and nothing is normalised by others


@dataclass(frozen=True)
class Measured:
    """Numbers for `data.range`, `data.mean` and `data.std`, as far as they were to be measured, over all pixels of so
    many training `images`."""

    values: dict[str, list[float]]
    images: int
    seconds: float

    def __str__(self) -> str:
        said = ", ".join(f"{name} {values}" for name, values in self.values.items())
        return f"measured on {self.images:,} training images in {self.seconds:.1f} s: {said}"


def to_measure(data: OpenData) -> tuple[str, ...]:
    """Which options of the data say `measure`."""
    return tuple(name for name in MEASURABLE if getattr(data.options, name) == "measure")


def decide_range(data: OpenData) -> None:
    """With `range: auto`, keep all bits of the images where the first one of the training part has more than eight."""
    samples = data.parts["train"]
    if data.options.range != "auto" or data.preprocessing.range is not None or samples.preprocessing is None:
        return
    try:
        kind = natural_type(samples.raw(0)[0], data.preprocessing.channels, data.preprocessing.layout)
    except (ZooError, OSError, ValueError):  # reading the images says what is wrong with it
        return
    if kind != np.uint8:
        data.prepare(replace(data.preprocessing, range="dtype"))
        said = "their values are kept, as float32 scaled to 0..1 by their type (data.range)"
        data.notes = (*data.notes, f"data: the first training image is of {kind}: {said}")


def measure(data: OpenData, names: tuple[str, ...]) -> Measured:
    """Measure `names` on the training part, as evaluation sees its images, and prepare the data by them.

    Raises InputError where the values do not differ, WorkError and InputError for images that cannot be read.
    """
    start, values = time.perf_counter(), {}
    if data.parts["train"].preprocessing is None:
        raise InputError("features are not normalised", suggestion=f"remove data.{names[0]}")
    if "range" in names:
        values["range"] = _range(data)
        data.prepare(replace(data.preprocessing, range=(values["range"][0], values["range"][1])))
    if "mean" in names or "std" in names:
        found = dict(zip(("mean", "std"), _mean_and_std(data), strict=True))
        values |= {name: found[name] for name in names if name in found}
    measured = Measured(values, len(data.parts["train"]), time.perf_counter() - start)
    prepare_by(data, measured.values)
    return measured


def prepare_by(data: OpenData, values: dict[str, Any]) -> None:
    """Let the data be prepared by measured numbers."""
    changes: dict[str, Any] = {name: tuple(numbers) for name, numbers in values.items()}
    data.prepare(replace(data.preprocessing, **changes))


def _range(data: OpenData) -> list[float]:
    """The least and the greatest value of the training images of their own size, transparency left out."""
    before, samples = data.preprocessing, data.parts["train"]
    data.prepare(replace(before, range=(0.0, 1.0)))  # values as they are
    try:
        images = (samples.decoded(samples.raw(position)[0]) for position in range(len(samples)))
        ends = [(float(image.min()), float(image.max())) for image in images]
    except InputError as error:
        raise samples.unreadable(error) from error
    finally:
        data.prepare(before)
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    if not low < high:
        raise InputError(f"data.range: every value of the training images is {low:g}")
    return [_short(low), _short(high)]


def _mean_and_std(data: OpenData) -> tuple[list[float], list[float]]:
    """Of each channel, over all pixels of the training images as the network gets them, scaled to 0..1."""
    before = data.preprocessing
    data.prepare(replace(before, mean=(0.0,), std=(1.0,)))
    total, squares = torch.zeros(2, before.channels, dtype=torch.float64)
    pixels = 0
    try:
        for batch in data.batches("train", shuffle=False, augment=False).epoch(0):
            values = batch.inputs.to(torch.float64)
            total += values.sum((0, 2, 3))
            squares += values.square().sum((0, 2, 3))
            pixels += values[:, 0].numel()
    finally:
        data.prepare(before)
    mean = total / pixels
    std = (squares / pixels - mean.square()).clamp_min(0).sqrt()
    if same := [str(place) for place, value in enumerate(std.tolist()) if value < 1e-6]:
        message = f"data.std: channel {listed(same)} (counted from 0) is the same in every pixel"
        raise InputError(message, suggestion="write numbers: data.mean and data.std; or leave the channel out")
    return [_short(value) for value in mean.tolist()], [_short(value) for value in std.tolist()]


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
