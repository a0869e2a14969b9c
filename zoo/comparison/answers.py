"""What a model answers for each sample of some data: outputs, targets, and which images these are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo.data.open_data import OpenData, Part
from zoo.errors import ZooError
from zoo.model.prediction import prediction
from zoo.model.undisturbed import undisturbed
from zoo.training.metrics import explain


@dataclass(frozen=True)
class Answers:
    """Outputs [n, k] (logits or values) and targets of the same samples, on the CPU.

    `images` are the paths of the samples' files, or, where a data set gives images themselves, their places in it.
    """

    outputs: Tensor
    targets: Tensor
    images: tuple[str | int, ...]


def answers_of(
    model: nn.Module,
    data: OpenData,
    parts: Sequence[Part],
    device: torch.device,
    *,
    batch_size: int | None = None,
) -> Answers:
    """The model's outputs for every sample of `parts`, in evaluation mode, in the order of the data."""
    outputs: list[Tensor] = []
    targets: list[Tensor] = []
    try:
        with undisturbed(model, training=False), torch.inference_mode():
            for part in parts:
                own = {"device": device, "shuffle": False, "augment": False, "once": True, "batch_size": batch_size}
                for batch in data.batches(part, **own).epoch(0):
                    outputs.append(prediction(model(batch.inputs)).float().cpu())
                    targets.append(batch.targets.cpu())
    except ZooError:
        raise
    except Exception as error:
        raise explain(error, "measuring") from error
    images = tuple(image for part in parts for image in images_of(data, part))
    return Answers(torch.cat(outputs), torch.cat(targets), images)


def images_of(data: OpenData, part: Part) -> list[str | int]:
    """What each sample of a part is called: the path of its file, or its place in the data set."""
    samples = data.parts[part]
    listed: Any = getattr(samples.dataset, "inputs", None)
    named = listed is not None and len(listed) == len(samples.dataset)
    places = [int(index) for index in samples.indices]
    return [os.fspath(listed[place]) if named and _is_path(listed[place]) else place for place in places]


def _is_path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike)
