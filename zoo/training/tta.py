"""Test-time augmentation: several views of each image are answered, and the answers averaged."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional

from zoo.contracts import Preprocessing
from zoo.data.open_data import OpenData
from zoo.errors import InputError, Problem, did_you_mean
from zoo.model.prediction import prediction
from zoo.recipe.options import VIEWS

MOST_KEPT = 0.875  # of the resized image's side is one of five crops, 224 of 256 pixels; less where the weights say so
Size = tuple[int, int]
Maker = Callable[[Tensor, Size], Iterator[Tensor]]


def _five_crops(images: Tensor, size: Size) -> Iterator[Tensor]:
    yield from functional.five_crop(images, list(size))


MAKERS: dict[str, Maker] = {
    "flip": lambda images, size: iter((images, images.flip(-1))),
    "vertical_flip": lambda images, size: iter((images, images.flip(-2))),
    "rotations": lambda images, size: (images.rot90(turns, (-2, -1)) for turns in range(4)),
    "five_crop": _five_crops,
}


@dataclass(frozen=True)
class Views:
    """The views that each of `words` makes of an image, all of them combined; without words the image alone.

    `flip` and `vertical_flip` add the mirrored image, `rotations` those by a quarter, a half and three quarters of a
    turn, `five_crop` takes the centre and the four corners (Krizhevsky et al., 2012) of an image resized so that a crop
    is at most 87.5 % of it; `[five_crop, flip]` are ten views.
    """

    words: tuple[str, ...] = ()

    @classmethod
    def of(cls, words: str | Sequence[str] | None) -> Views:
        """Of a word or several. Raises InputError for a word that there is not, or that comes twice."""
        every = (words,) if isinstance(words, str) else tuple(words or ())
        unknown = [word for word in every if word not in VIEWS]
        if unknown:
            hint = f"there is {', '.join(VIEWS)}"
            raise InputError(
                Problem(f"test-time augmentation has no {word!r}", None, did_you_mean(word, VIEWS) or hint)
                for word in unknown
            )
        if len(set(every)) < len(every):
            raise InputError(f"test-time augmentation: {' and '.join(every)} names the same views twice")
        return cls(every)

    def __bool__(self) -> bool:
        return bool(self.words)

    def preprocessing(self, usual: Preprocessing) -> Preprocessing:
        """How images are prepared for the views. Raises InputError for quarter turns of what is not square."""
        if "rotations" in self.words and usual.size[0] != usual.size[1]:
            shape = " x ".join(map(str, usual.size))
            raise InputError(
                f"rotations need square images; the network takes {shape}", suggestion="leave rotations out"
            )
        if "five_crop" not in self.words:
            return usual
        kept = min(usual.crop_fraction, MOST_KEPT)
        height, width = (math.floor(side / kept) for side in usual.size)
        return replace(usual, size=(height, width), crop_fraction=1.0)

    def data(self, usual: OpenData) -> OpenData:
        """The data with its images prepared for the views. Raises InputError where it contains features."""
        if not self:
            return usual
        if usual.parts["train"].preprocessing is None:
            message = f"test-time augmentation changes images, and {usual.options.source} contains features"
            raise InputError(message, suggestion="leave it out")
        prepared, parts = self.preprocessing(usual.preprocessing), {}
        for name, samples in usual.parts.items():
            parts[name] = copy.copy(samples)
            parts[name].preprocessing = prepared
        return replace(usual, preprocessing=prepared, parts=parts, _fetchers={})

    def views(self, images: Tensor, size: Size) -> Iterator[Tensor]:
        """Of images [b, c, h, w], prepared by `preprocessing`, all views, each [b, c, *size], one after the other."""
        words = sorted(self.words, key=lambda word: word != "five_crop")  # crops first: the others are of crops
        return _views(images, [MAKERS[word] for word in words], size)

    def outputs(self, model: Callable[[Tensor], Any], images: Tensor, task: str, size: Size) -> Tensor:
        """The model's answers [b, …] to a batch: its own without words, else `averaged` over the views."""
        if not self:
            return prediction(model(images)).float()
        return averaged([prediction(model(view)).float() for view in self.views(images, size)], task)


def _views(images: Tensor, makers: Sequence[Maker], size: Size) -> Iterator[Tensor]:
    if not makers:
        yield images
        return
    for made in makers[0](images, size):
        yield from _views(made, makers[1:], size)


PLAIN = Views()


def averaged(outputs: Sequence[Tensor], task: str) -> Tensor:
    """Outputs whose probabilities are the mean of those of the given ones: of classes, or of each label by itself; the
    mean value of a regression.

    They are logits again, so that every loss and metric takes them: log p of classes, log(p / (1 - p)) of labels.
    """
    every = torch.stack(list(outputs))
    if task == "regression":
        return every.mean(0)
    if task == "classification":
        return every.log_softmax(-1).logsumexp(0) - math.log(len(every))
    return F.logsigmoid(every).logsumexp(0) - F.logsigmoid(-every).logsumexp(0)
