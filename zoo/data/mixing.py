"""Mixup and cutmix: batches whose samples are mixed in pairs, inputs and targets alike, on the batch's device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from zoo.data import transforms
from zoo.data.batches import Batch, Batches
from zoo.errors import InputError

DRAW = 1  # tells the draws of a batch from those of images, which have the same seed


@dataclass(frozen=True)
class Mixing:
    """How the samples of a batch are mixed, by torchvision's MixUp and CutMix; with both a batch has one of them, drawn
    at random for each, as in torchvision's references and timm.

    `mixup` and `cutmix` are the alpha of the Beta distribution that the share is drawn from, one share a batch; 0 is
    without. Sample i of n is mixed with sample i + n // 2, so that a process that has every world-th sample makes the
    same mixtures as one process has, where the batch size is a multiple of 2 * world. The last sample of an odd batch
    stays as it is. Zhang et al., 2018 (mixup); Yun et al., 2019 (CutMix).
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.mixup or self.cutmix)

    def __str__(self) -> str:
        return " or ".join(f"{name} {alpha:g}" for name, alpha in self.as_dict().items())

    def as_dict(self) -> dict[str, float]:
        """Alpha by name, of what is used."""
        return {name: getattr(self, name) for name in ("mixup", "cutmix") if getattr(self, name)}

    def transform(self) -> v2.Transform:
        """What mixes (inputs …, targets)."""
        kinds = {"mixup": v2.MixUp, "cutmix": v2.CutMix}
        made = [kinds[name](alpha=alpha, labels_getter=_last) for name, alpha in self.as_dict().items()]
        return made[0] if len(made) == 1 else v2.RandomChoice(made)


class MixedBatches:
    """Batches of mixed samples: images, or features of a frozen backbone, which mixup alone can mix (manifold mixup,
    Verma et al., 2019).

    Targets are float32: [b, classes], each class's share; or the mean of labels or values by the shares. Draws depend
    on (seed, epoch, batch) alone.
    """

    def __init__(self, batches: Batches, mixing: Mixing, *, task: str, outputs: int, seed: int) -> None:
        self.batches, self.mixing, self.task, self.outputs, self.seed = batches, mixing, task, outputs, seed
        self._transform = mixing.transform()

    def __len__(self) -> int:
        return len(self.batches)

    def size(self, index: int) -> int:
        return self.batches.size(index)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for index, batch in enumerate(self.batches.epoch(epoch, start), start):
            yield self._mixed(batch, (self.seed, epoch, index, DRAW))

    def close(self) -> None:
        self.batches.close()

    def _mixed(self, batch: Batch, key: Sequence[int]) -> Batch:
        targets = batch.targets
        if self.task == "classification" and not targets.is_floating_point():
            targets = F.one_hot(targets, self.outputs)
        alone = isinstance(batch.inputs, Tensor)
        tensors = (batch.inputs,) if alone else batch.inputs
        if strange := [tensor.dtype for tensor in tensors if not tensor.is_floating_point()]:
            message = f"mixup: the frozen backbone gives {strange[0]} beside its features, which cannot be mixed"
            raise InputError(message, suggestion="write feature_cache: off, or mixup: 0")
        *inputs, mixed = self._in_pairs([*tensors, targets.float()], key)
        return Batch(inputs[0] if alone else tuple(inputs), mixed, batch.positions)

    def _in_pairs(self, tensors: Sequence[Tensor], key: Sequence[int]) -> list[Tensor]:
        """The tensors, targets last, each sample mixed with the one half a batch away: torchvision mixes neighbours,
        and with a batch's halves as two samples each is the other's neighbour."""
        half = len(tensors[0]) // 2
        if not half:
            return list(tensors)
        *inputs, targets = (tensor[: 2 * half] for tensor in tensors)
        as_two, made = targets.reshape(2, -1), []
        for each in inputs:  # one by one: of several tensors v2 transforms the first; the draws are the same
            given = each.reshape(2, -1, *_places(each)), as_two
            done, mixed = transforms.seeded(lambda pair: self._transform(*pair), given, *key)
            made.append(done)
        pairs = zip([*made, mixed], tensors, strict=True)
        return [torch.cat([new.reshape(2 * half, *old.shape[1:]), old[2 * half :]]) for new, old in pairs]


def _places(tensor: Tensor) -> tuple[int, int]:
    """The last two sizes of images; of any other tensor, where nothing lies beside another, one place."""
    return (tensor.shape[-2], tensor.shape[-1]) if tensor.ndim == 4 else (1, 1)


def _last(given: Sequence[Any]) -> Any:
    return given[-1]
