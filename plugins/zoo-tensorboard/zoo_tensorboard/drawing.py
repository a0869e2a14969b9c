"""Tensors as pictures: input images, feature maps as tiles, tokens and vectors as heat maps.

Pictures are uint8 [c, h, w]. In those of feature maps black is a map's smallest value and white its largest.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchvision.utils import make_grid

from zoo.api import Preprocessing

PADDING = 1  # white pixels around a tile


def photographs(inputs: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Normalised images [n, c, h, w] as they were before normalisation, in a grid. c is 1 or 3."""
    mean, std = (
        torch.tensor(values, device=inputs.device).view(-1, 1, 1) for values in (preprocessing.mean, preprocessing.std)
    )
    return _grid(((inputs.float() * std + mean) * 255).round().clamp(0, 255).to(torch.uint8))


def feature_maps(values: Tensor, samples: int) -> list[Tensor]:
    """A module's input or output as pictures: one for each sample, or one of all samples where each has a vector.

    `values` is [n, c, h, w] (a tile a channel; a window or head counts as a channel), [n, t, d] (a heat map, a row a
    token) or [n, d] (a heat map, a row a sample). Where a sample takes k rows of the first dimension, as in attention
    by windows, they are k channels. Empty where the first dimension is not that of samples.
    """
    if values.ndim == 0 or not values.numel() or len(values) % samples:
        return []
    if len(values) != samples:
        values = values.reshape(samples, -1, *values.shape[1:])
    if values.ndim < 3:
        return [scaled(values.reshape(1, samples, -1))]
    if values.ndim == 3:
        return [scaled(sample[None]) for sample in values]
    return [_grid(scaled(sample)[:, None]) for sample in values.flatten(1, -3)]


def scaled(maps: Tensor) -> Tensor:
    """Maps [m, h, w] as uint8, each from its own smallest value (0) to its largest (255); a constant one is 0.

    What is not finite counts as 0.
    """
    maps = maps.float().nan_to_num(0.0, 0.0, 0.0)
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    span = torch.where(high > low, high - low, 1.0)
    return ((maps - low) / span * 255).round().to(torch.uint8)


def _grid(tiles: Tensor) -> Tensor:
    """[n, c, h, w] as a nearly square picture [3, …]."""
    picture: Tensor = make_grid(tiles, nrow=math.ceil(math.sqrt(len(tiles))), padding=PADDING, pad_value=255)
    return picture
