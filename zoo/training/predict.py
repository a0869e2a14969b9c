"""Class names and probabilities for images."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.checkpoint.load import load
from zoo.contracts import Context
from zoo.data import transforms
from zoo.data.decode import image_for
from zoo.data.image_folder import images_in, passed_over
from zoo.errors import InputError, Problem, first_problems
from zoo.formats.files import kind_of
from zoo.model.assembly import Assembly
from zoo.model.heads import heads_if_any
from zoo.model.paths import get_module
from zoo.model.shapes import ModuleShapes
from zoo.training.devices import choose_device
from zoo.training.labels import in_order, output_names, present
from zoo.training.tta import PLAIN, Views

BATCH = 32
Named = tuple[str | int, Any]  # what a row calls an image, and the image


@dataclass(frozen=True)
class Predictor:
    """A network that names what is on images, a batch at a time.

    `top` labels an image; of a multilabel network those at or above their threshold are its `labels`, too: one
    `threshold` for all, or without it those of the checkpoint.
    """

    assembly: Assembly
    device: torch.device
    top: int
    threshold: float | None = None
    views: Views = PLAIN

    def rows(self, images: Iterable[Named]) -> Iterator[dict[str, Any]]:
        """A row an image, in order; at most one batch of images is in memory, however many there are."""
        every = iter(images)
        while batch := list(itertools.islice(every, BATCH)):
            yield from _rows(self, batch)

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """What the outputs are called: as the checkpoint says, else `output_names`'."""
        known = self.assembly.classes
        context = Context(len(known), known, self.assembly.preprocessing, self.task)
        shape = ModuleShapes(self.assembly.model, context).prediction()
        outputs = shape[-1] if shape else len(known)
        return output_names(known, outputs, self.task)

    @functools.cached_property
    def thresholds(self) -> tuple[float, ...]:
        """Of each label the probability from which on it counts as there."""
        if self.threshold is not None:
            return (self.threshold,) * len(self.names)
        return in_order(self.assembly.thresholds, self.names)

    @property
    def task(self) -> str:
        """`classification`, `multilabel` or `regression`."""
        return self.assembly.task


def open_predictor(
    checkpoint: str | os.PathLike[str] | Assembly,
    top: int = 5,
    *,
    threshold: float | None = None,
    device: str = "auto",
    tta: str | Sequence[str] | None = None,
) -> Predictor:
    """The network of a checkpoint; an assembly has to be on `device`. Raises InputError where the file is no
    checkpoint, for a network that has neither classes nor a head, and for a threshold where labels exclude each
    other."""
    where, views = choose_device(device), Views.of(tta)
    assembly = checkpoint if isinstance(checkpoint, Assembly) else load(checkpoint, device=where)
    if not assembly.classes and assembly.task != "regression" and not _has_head(assembly.model):
        message = "the network has no head: its outputs are features, not scores of classes"
        raise InputError(message, suggestion="train one: swap_head: auto and train, in a recipe; or see zoo embed")
    if threshold is not None and assembly.task != "multilabel":
        message = f"a threshold belongs to multilabel networks, and this one is for {assembly.task}"
        raise InputError(message, suggestion="leave out --threshold (threshold= in Python)")
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"the threshold {threshold:g} is not between 0 and 1")
    views.preprocessing(assembly.preprocessing)
    return Predictor(assembly, where, top, threshold, views)


def predict(
    checkpoint: str | os.PathLike[str] | Assembly,
    images: Iterable[Any],
    top_k: int = 5,
    *,
    threshold: float | None = None,
    device: str = "auto",
    tta: str | Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Class names and probabilities for images: one `{"image", "predictions": [{"label", "probability"}, …]}` each.

    The likeliest label comes first. `images` are files or folders, which are searched with all their sub-folders, PIL
    images or uint8 tensors [c, h, w]; of the last two `image` is the place in `images`. `checkpoint` may be an assembly
    on `device`. A multilabel row has `labels`, too: those with a probability of `threshold` or more,
    without it of the checkpoint's own threshold for the label. A regression has
    `value` in place of `probability`; an image that cannot be read has `error` in place of `predictions`, and the
    others are predicted all the same. Raises InputError for a path that does not exist, a folder without images, a file
    that is no checkpoint, and a network that has neither classes nor a head.

    With `tta` the answers are the mean of those to several views of an image (`zoo.training.tta.Views`).
    """
    named = find_images(images)
    return list(open_predictor(checkpoint, top_k, threshold=threshold, device=device, tta=tta).rows(named))


def find_images(images: Iterable[Any]) -> list[Named]:
    """What each image is called, and the image. Raises InputError naming every path that leads to none."""
    named: list[Named] = []
    problems: list[Problem] = []
    for place, image in enumerate(images):
        try:
            named += _named(place, image)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(first_problems(problems))
    if not named:
        raise InputError("no images to predict", suggestion="name image files or folders")
    return named


def listed_images(paths: Iterable[bytes]) -> Iterator[Named]:
    """The images of a stream of paths, one a line; what is no image is said of it in its row, and stops nothing."""
    for line in paths:
        path = os.fsdecode(line.rstrip(b"\r\n"))
        if not path:
            continue
        try:
            yield from _named(0, path)
        except InputError as error:
            yield path, error


def _named(place: int, image: Any) -> list[Named]:
    """What a row calls an image, and the image."""
    if isinstance(image, str | os.PathLike):
        return [(str(path), path) for path in _images(Path(image).expanduser())]
    return [(place, image)]


def _images(path: Path) -> list[Path]:
    if path.is_dir():
        found = images_in(path)
        if not found:
            there = passed_over(path)
            raise InputError(f"the folder {path} contains no images{f'; passed over: {there}' if there else ''}")
        return found
    if not path.exists():
        raise InputError(f"there is no image {path}")
    if not path.is_file():
        raise InputError(f"{path} is {kind_of(path.stat().st_mode)}, and no image")
    return [path]


def _rows(predictor: Predictor, images: Sequence[Named]) -> list[dict[str, Any]]:
    """The rows of one batch, in order."""
    assembly = predictor.assembly
    preprocessing = predictor.views.preprocessing(assembly.preprocessing)
    rows: list[dict[str, Any]] = []
    readable: list[Tensor] = []
    for name, image in images:
        row: dict[str, Any] = {"image": name}
        try:
            if isinstance(image, InputError):
                raise image
            readable.append(transforms.fit(image_for(image, preprocessing), preprocessing))
        except InputError as error:
            row["error"] = str(error)
        rows.append(row)
    if readable:
        inputs = transforms.normalise(torch.stack(readable).to(predictor.device), preprocessing)
        with torch.inference_mode():
            outputs = predictor.views.outputs(assembly.model, inputs, predictor.task, assembly.preprocessing.size)
        answers = iter(_answers(predictor, outputs))
        for row in rows:
            if "error" not in row:
                row.update(next(answers))
    return rows


def _has_head(model: nn.Module) -> bool:
    """Whether a classifier is there; what a network without one has in its place is an Identity, or nothing."""
    return any(not isinstance(get_module(model, path), nn.Identity) for path in heads_if_any(model))


def _answers(predictor: Predictor, outputs: Tensor) -> Iterator[dict[str, Any]]:
    """Of each row of outputs [b, k] the likeliest labels with their probabilities, or the values of a regression."""
    task = predictor.task
    names = output_names(predictor.names, outputs.shape[-1], task)
    if task == "regression":
        for row in outputs.tolist():
            yield {"predictions": [{"label": name, "value": value} for name, value in zip(names, row, strict=True)]}
        return
    scores = outputs.softmax(-1) if task == "classification" else outputs.sigmoid()
    best = scores.sort(-1, descending=True)
    there = present(scores, predictor.thresholds if task == "multilabel" else ()).tolist()
    for values, indices, found in zip(best.values.tolist(), best.indices.tolist(), there, strict=True):
        ranked = [(names[index], value) for value, index in zip(values, indices, strict=True)]
        answer: dict[str, Any] = {
            "predictions": [{"label": name, "probability": value} for name, value in ranked[: predictor.top]]
        }
        if task == "multilabel":
            answer["labels"] = [names[index] for index in indices if found[index]]
        yield answer
