"""Evaluation's preprocessing as tensor operations of any image size, so that an exported graph can contain it.

`zoo.data.transforms.fit` resizes with torch's antialiased kernels for uint8, or for lanczos with Pillow's. Both are
sums of pixels with whole-number weights, first along rows, then along columns, rounded to uint8 after each. Here the
weights are made as matrices by the same formulas, and the sums are matrix products in float64, which hold such whole
numbers exactly: the pixels are the same ones, not nearly the same. The rows that the centre crop cuts away are not
computed; of the first and last of them only the weights are, since the largest weight decides the number of bits.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from zoo.contracts import Preprocessing
from zoo.data.transforms import ELONGATED

SUPPORT = {"bilinear": 1.0, "bicubic": 2.0, "lanczos": 3.0}  # how far a filter reaches, in pixels of the smaller image
PILLOW_BITS = 22  # of Pillow's weights, whatever they are
MOST_BITS = 22  # of torch's, where the largest weight leaves room for so many in 16 bits
EDGE = 4  # rows at either end that are looked at for the largest weight


class Preprocess(nn.Module):
    """uint8 images [n, h, w, c] of one size, any one, as the network's input: float32 [n, c, *size].

    `fitted` gives the resized and cropped pixels, whole numbers as float64; `forward` scales and normalises them, bit
    for bit as `zoo.data.transforms.normalise` does.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.fitted(images).to(torch.float32).div(255).sub(self.mean).div(self.std)

    def fitted(self, images: Tensor) -> Tensor:
        """The pixels that `zoo.data.transforms.fit` gives, float64 [n, c, *size]."""
        pixels = images.permute(0, 3, 1, 2).to(torch.float64)
        height, width = (_number(side, images) for side in images.shape[1:3])
        target_height, target_width = self.preprocessing.size
        small = (height <= target_height) & (width <= target_width)
        fraction = self.preprocessing.crop_fraction
        scale = torch.maximum(
            torch.where(small, float(target_height), float(math.floor(target_height / fraction))) / height,
            torch.where(small, float(target_width), float(math.floor(target_width / fraction))) / width,
        )
        across = self._weights(images.shape[2], width, scale, target_width, images)
        down = self._weights(images.shape[1], height, scale, target_height, images)
        if self.preprocessing.interpolation == "nearest":
            return down[0] @ (pixels @ across[0].T)
        rows = _rounded(pixels @ across[0].T, across[1])
        return _rounded(down[0] @ rows, down[1])

    def _weights(self, side: int, length: Tensor, scale: Tensor, target: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """The weights [target, side] of the pixels of one axis, and what they have to be divided by."""
        seen = torch.minimum(length, torch.ceil(ELONGATED * target / scale))
        first = torch.floor((length - seen) / 2)
        resized = torch.floor(seen * scale + 1e-6)
        cut = torch.round((resized - target) / 2)  # half to even, as the centre crop does
        step = seen / resized
        kept = torch.arange(target, dtype=torch.float64, device=like.device) + cut
        pixels = torch.arange(side, dtype=torch.float64, device=like.device) - first
        if self.preprocessing.interpolation == "nearest":
            step = (seen.to(torch.float32) / resized.to(torch.float32)).to(
                torch.float64
            )  # torch's kernel counts in float32
            nearest = torch.minimum(((kept + 0.5) * step).to(torch.float32).floor().to(torch.float64), seen - 1)
            return (pixels == nearest[:, None]).to(torch.float64), torch.ones_like(scale)
        shares = _shares(kept, pixels, step, seen, self.preprocessing.interpolation)
        if self.preprocessing.interpolation == "lanczos":
            unit = torch.full_like(scale, 2.0**PILLOW_BITS)
        else:
            edge = torch.arange(EDGE, dtype=torch.float64, device=like.device)
            ends = _shares(torch.cat([edge, resized - 1 - edge]), pixels, step, seen, self.preprocessing.interpolation)
            unit = _unit(torch.maximum(shares.max(), ends.max()))
        return shares.sign() * torch.floor(shares.abs() * unit + 0.5), unit


def _number(side: int, like: Tensor) -> Tensor:
    """The length of an axis as a float64 of no dimensions, which stays a variable of the graph."""
    return torch.full((), side, dtype=torch.int64, device=like.device).to(torch.float64)


def _shares(places: Tensor, pixels: Tensor, step: Tensor, seen: Tensor, interpolation: str) -> Tensor:
    """[places, pixels]: the share of each pixel in the resized rows `places`; a row's shares add up to 1."""
    wide = torch.clamp(step, min=1.0)
    reach = SUPPORT[interpolation] * wide
    centre = ((places + 0.5) * step)[:, None]
    begin = torch.clamp(torch.floor(centre - reach + 0.5), min=0.0)
    end = torch.minimum(torch.floor(centre + reach + 0.5), seen)
    inside = (pixels >= begin) & (pixels < end)
    values = _filter((pixels - centre + 0.5) / wide, interpolation)
    values = torch.where(inside, values, torch.zeros_like(values))
    return values / values.sum(1, keepdim=True)


def _filter(x: Tensor, interpolation: str) -> Tensor:
    """The filter's value at a distance: those of Pillow, which torch's antialiased kernels took over."""
    far = x.abs()
    if interpolation == "bilinear":
        return torch.clamp(1 - far, min=0.0)
    if interpolation == "bicubic":
        near = (1.5 * far - 2.5) * far * far + 1
        return torch.where(far < 1, near, torch.where(far < 2, (((far - 5) * far + 8) * far - 4) * -0.5, 0.0 * far))
    return torch.where(far < 3, _sinc(x) * _sinc(x / 3), 0.0 * far)


def _sinc(x: Tensor) -> Tensor:
    zero = x == 0
    angle = torch.where(zero, torch.ones_like(x), x) * math.pi
    return torch.where(zero, torch.ones_like(x), torch.sin(angle) / angle)


def _unit(largest: Tensor) -> Tensor:
    """2 ** bits: as many bits as keep the largest weight within 16, as torch's kernel counts them."""
    bits = torch.arange(1, MOST_BITS + 1, dtype=torch.float64, device=largest.device)
    units = 2.0**bits
    fits = torch.floor(0.5 + largest * units) < 2**15
    return torch.where(fits, units, torch.ones_like(units)).max()


def _rounded(sums: Tensor, unit: Tensor) -> Tensor:
    return torch.clamp(torch.floor((sums + unit / 2) / unit), 0.0, 255.0)
