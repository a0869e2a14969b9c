"""Class names and probabilities for images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.checkpoint.load import load
from zoo.data import transforms
from zoo.data.decode import to_image
from zoo.data.image_folder import images_in, passed_over
from zoo.errors import InputError
from zoo.model.assembly import Assembly
from zoo.model.heads import heads_if_any
from zoo.model.paths import get_module
from zoo.model.prediction import prediction
from zoo.training.devices import choose_device

BATCH = 32
Named = tuple[str | int, Any]  # what a row calls an image, and the image


def predict(
    checkpoint: str | os.PathLike[str] | Assembly,
    images: Iterable[Any],
    top_k: int = 5,
    *,
    device: str = "auto",
) -> list[dict[str, Any]]:
    """Class names and probabilities for images: one `{"image", "predictions": [{"label", "probability"}, …]}` each.

    The likeliest label comes first. `images` are files or folders, which are searched with all their sub-folders, PIL
    images or uint8 tensors [c, h, w]; of the last two `image` is the place in `images`. `checkpoint` may be an assembly
    on `device`. A regression has `value` in place of `probability`; an image that cannot be read has `error` in place
    of `predictions`, and the others are predicted all the same. Raises InputError for a path that does not exist, a
    folder without images, a file that is no checkpoint, and a network that has neither classes nor a head.
    """
    named = [found for place, image in enumerate(images) for found in _named(place, image)]
    if not named:
        raise InputError("no images to predict", suggestion="name image files or folders")
    where = choose_device(device)
    assembly = checkpoint if isinstance(checkpoint, Assembly) else load(checkpoint, device=where)
    rows = []
    for first in range(0, len(named), BATCH):
        rows += _rows(assembly, named[first : first + BATCH], top_k, where)
    return rows


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
    return [path]


def _rows(assembly: Assembly, images: Sequence[Named], top_k: int, device: torch.device) -> list[dict[str, Any]]:
    """The rows of one batch, in order."""
    preprocessing = assembly.preprocessing
    rows: list[dict[str, Any]] = []
    readable: list[Tensor] = []
    for name, image in images:
        row: dict[str, Any] = {"image": name}
        try:
            readable.append(transforms.fit(to_image(image, preprocessing.channels), preprocessing))
        except InputError as error:
            row["error"] = str(error)
        rows.append(row)
    if readable:
        inputs = transforms.normalise(torch.stack(readable).to(device), preprocessing)
        with torch.inference_mode():
            outputs = prediction(assembly.model(inputs)).float()
        predicted = iter(_predictions(assembly, outputs, top_k))
        for row in rows:
            if "error" not in row:
                row["predictions"] = next(predicted)
    return rows


def _has_head(model: nn.Module) -> bool:
    """Whether a classifier is there; what a network without one has in its place is an Identity, or nothing."""
    return any(not isinstance(get_module(model, path), nn.Identity) for path in heads_if_any(model))


def _predictions(assembly: Assembly, outputs: Tensor, top_k: int) -> list[list[dict[str, Any]]]:
    """Outputs [b, k] as lists of labels, each with a probability or value."""
    names = assembly.classes
    if not names and assembly.task != "regression" and not _has_head(assembly.model):
        message = f"the network has no head: its {outputs.shape[-1]} outputs are features, not scores of classes"
        raise InputError(message, suggestion="train one: swap_head: auto and train, in a recipe")
    if len(names) != outputs.shape[-1]:  # names of other outputs are worse than numbers
        names = tuple(str(index) for index in range(outputs.shape[-1]))
    if assembly.task == "regression":
        return [
            [{"label": name, "value": value} for name, value in zip(names, row, strict=True)]
            for row in outputs.tolist()
        ]
    scores = outputs.softmax(-1) if assembly.task == "classification" else outputs.sigmoid()
    best = scores.topk(min(top_k, scores.shape[-1]))
    return [
        [{"label": names[index], "probability": value} for value, index in zip(values, indices, strict=True)]
        for values, indices in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
