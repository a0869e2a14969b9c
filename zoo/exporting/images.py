"""The images that an export is checked on and int8 is calibrated with, one at a time, as the network gets them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.contracts import Context, Preprocessing
from zoo.data import transforms
from zoo.data.image_folder import images_in
from zoo.data.open_data import Part
from zoo.data.samples import Samples
from zoo.errors import InputError, ZooError
from zoo.model.assembly import Assembly
from zoo.model.shapes import ModuleShapes
from zoo.recipe.options import DataOptions
from zoo.training.evaluate import open_for

BATCH = 16
SIDES = ((224, 224), (300, 401), (97, 64))  # of random images, next to the network's own size
HELD_OUT: tuple[Part, ...] = ("validation", "test")


@dataclass(frozen=True)
class Input:
    """One sample: `raw`, the uint8 image [h, w, c] of its own size (or the features themselves), and `fitted`, the
    pixels that evaluation makes of it: uint8 [c, h, w]."""

    raw: Tensor
    fitted: Tensor


@dataclass
class Source:
    """Where inputs come from: `held_out` to check on, `training` to calibrate with (empty where there is no data).

    `said` names them for the person; `features` says that they are no images; `shape` is that of a model's input.
    """

    said: str
    held_out: Collection[Input] | _Listed
    training: Collection[Input] | _Listed
    features: bool
    shape: tuple[int, ...]
    notes: list[str] = field(default_factory=list)


class _Listed:
    """Samples of a data set, decoded when they are asked for."""

    def __init__(self, samples: Samples, positions: Sequence[int], preprocessing: Preprocessing) -> None:
        self.samples, self.positions = samples, positions
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[Input]:
        for position in self.positions:
            value = self.samples.decoded(self.samples.raw(position)[0])
            if self.samples.preprocessing is None:
                yield Input(value, value)
            else:
                yield Input(value.permute(1, 2, 0).contiguous(), transforms.fit(value, self.preprocessing))


def find_source(
    name: str, assembly: Assembly, data: str | DataOptions | None, *, images: int, calibration: int
) -> Source:
    """At most `images` held-out samples and `calibration` training samples of `data`, or of the checkpoint's own.

    Where the checkpoint's own data is not there, random inputs in the data's range stand in for held-out ones, and a
    note says why. Raises InputError for `data` that cannot be opened.
    """
    try:
        opened, _ = open_for(name, assembly, data)
    except ZooError as error:
        if isinstance(data, str) and (found := _without_labels(data, assembly)):
            return _source_of(found, data, assembly.preprocessing, images, calibration)
        if data is not None:
            raise
        return _random_source(assembly, str(error.problems[0].message), images)
    return _source_of(opened.parts, opened.options.source, assembly.preprocessing, images, calibration)


def _without_labels(data: str, assembly: Assembly) -> dict[Part, Samples]:
    """All images of a folder, where it is one: no label is needed here, and other classes do no harm."""
    folder = Path(data).expanduser()
    paths = images_in(folder) if folder.is_dir() else []
    listed = [(path, 0) for path in paths]
    return (
        {"train": Samples(listed, np.arange(len(paths)), assembly.preprocessing, "classification", 1)} if paths else {}
    )


def _source_of(
    parts: Mapping[Part, Samples], called: str, preprocessing: Preprocessing, images: int, calibration: int
) -> Source:
    training = parts["train"]
    train_order = _drawn(len(training), len(training))
    part = next((part for part in HELD_OUT if part in parts), None)
    if part is None:  # all of it is one part: no image is used for both
        chosen = train_order[: max(min(images, len(training) // 2), 1)]
        held_out = _Listed(training, sorted(chosen), preprocessing)
        train_order = train_order[len(chosen) :]
        said = f"{len(held_out)} images of {called}"
    else:
        samples = parts[part]
        held_out = _Listed(samples, sorted(_drawn(len(samples), images)), preprocessing)
        said = f"{len(held_out)} {part} images of {called}"
    first = next(iter(held_out))
    features = training.preprocessing is None
    listed = _Listed(training, sorted(train_order[:calibration]), preprocessing)
    return Source(said, held_out, listed, features, tuple(first.fitted.shape))


def _drawn(count: int, most: int) -> list[int]:
    """At most so many positions out of `count`, at random and always the same ones."""
    return [int(place) for place in np.random.default_rng(0).permutation(count)[:most]]


def _random_source(assembly: Assembly, reason: str, images: int) -> Source:
    shape, preprocessing = input_shape(assembly), assembly.preprocessing
    generator = torch.Generator().manual_seed(0)
    features = len(shape) != 3
    inputs: list[Input] = []
    for place in range(min(images, BATCH)):
        if features:
            value = torch.rand(shape, generator=generator)
            inputs.append(Input(value, value))
        else:
            side = [preprocessing.size, *SIDES][place % (len(SIDES) + 1)]
            image = _random_image(preprocessing.channels, side, generator)
            inputs.append(Input(image.permute(1, 2, 0).contiguous(), transforms.fit(image, preprocessing)))
    note = f"checked on {len(inputs)} random inputs, not on images: {reason}; name data: --data FOLDER"
    return Source(f"{len(inputs)} random inputs", inputs, [], features, shape, [note])


def _random_image(channels: int, side: tuple[int, int], generator: torch.Generator) -> Tensor:
    """A smooth random image with noise: uint8 [c, h, w] over the entire range of bytes."""
    coarse = torch.rand((1, channels, 7, 7), generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, side, mode="bicubic")[0]
    noise = torch.rand(smooth.shape, generator=generator)
    return ((0.8 * smooth + 0.2 * noise).clamp(0, 1) * 255).round().to(torch.uint8)


def input_shape(assembly: Assembly) -> tuple[int, ...]:
    """The shape of one input, without the batch: an image of the preprocessing's size, or so many features.

    Raises InputError where no likely input goes through the model.
    """
    context = Context(0, assembly.classes, assembly.preprocessing, assembly.task)
    done = ModuleShapes(assembly.model, context).furthest
    shape = done.trace.inputs.get("")
    if done.error is not None or shape is None:
        raise InputError(f"no input is known that goes through this model: {done.error}", suggestion="--data FOLDER")
    return tuple(shape[1:])


def batches_of(inputs: Iterable[Input], *, raw: bool, size: int = BATCH) -> Iterator[list[Input]]:
    """Inputs that fit into one tensor, at most `size` together: with `raw` neighbours of one size alone."""
    for _, group in groupby(inputs, key=lambda one: tuple((one.raw if raw else one.fitted).shape)):
        batch: list[Input] = []
        for one in group:
            batch.append(one)
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch


def network_input(batch: Sequence[Input], preprocessing: Preprocessing | None) -> Tensor:
    """What the model gets of a batch, float32; features where there is no preprocessing."""
    stacked = torch.stack([one.fitted for one in batch])
    return stacked if preprocessing is None else transforms.normalise(stacked, preprocessing)


def file_input(batch: Sequence[Input], preprocessing: Preprocessing | None, *, raw: bool) -> Any:
    """What the exported file gets of it, as an array."""
    return torch.stack([one.raw for one in batch]).numpy() if raw else network_input(batch, preprocessing).numpy()
