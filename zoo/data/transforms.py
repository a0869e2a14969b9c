"""From decoded image to network input: resize and crop, random augmentation (both on uint8), normalise (per batch)."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode, functional

from zoo.contracts import Preprocessing
from zoo.errors import InputError, WorkError
from zoo.given import find_given, is_given
from zoo.isolation import PluginError, guarded
from zoo.recipe.catalogue import FILLED, bound, component_of, find
from zoo.recipe.options import DataOptions, Named

MODES = {
    "nearest": InterpolationMode.NEAREST_EXACT,
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "lanczos": InterpolationMode.LANCZOS,
}
SMALLEST_CROP = 0.35  # of the image's area: torchvision's 0.08 is for training from scratch on large data
ELONGATED = 16  # how many times the crop the resized image may be long; more of it is not resized
RANDOM_PER_IMAGE = ("crop_flip", "randaugment", "trivial")


Augmentation = str | tuple[Named, ...]  # a word of zoo's or an object handed over; or transforms, in their order


def changes_of(options: DataOptions) -> Augmentation:
    """How training images are changed at random; `none` where they are not."""
    return tuple(options.transforms) or options.augmentation


def is_random_per_image(augmentation: Augmentation) -> bool:
    """Whether each image is changed by itself as it is decoded; otherwise batches are, or nothing is."""
    return isinstance(augmentation, tuple) or augmentation in RANDOM_PER_IMAGE or is_given(augmentation)


def identity_of(augmentation: Augmentation) -> str:
    """What cached features depend on: the names and arguments, and of plugins' transforms also their versions."""
    if isinstance(augmentation, str):
        return augmentation
    names = (next(iter(value)) if isinstance(value, dict) else value for value in augmentation)
    rows = [component_of("transforms", name) for name in names]
    return f"{augmentation} {[(row.distribution, row.version) for row in rows if row is not None]}"


def resolve(preprocessing: Preprocessing, options: DataOptions) -> Preprocessing:
    """The weights' preprocessing, overridden by what `data:` says. Raises InputError where mean or std do not fit."""
    size = options.image_size
    changes: dict[str, Any] = {
        "size": (size, size) if isinstance(size, int) else size,
        "mean": tuple(options.mean) if options.mean else None,
        "std": tuple(options.std) if options.std else None,
        "interpolation": options.interpolation,
    }
    resolved = replace(preprocessing, **{key: value for key, value in changes.items() if value is not None})
    for name in ("mean", "std"):
        values = getattr(resolved, name)
        if len(values) not in (1, resolved.channels):
            raise InputError(f"data.{name} has {len(values)} values; the network takes {resolved.channels} channels")
    if not all(value > 0 for value in resolved.std):
        raise InputError(f"data.std {list(resolved.std)}: every value must be above 0")
    if resolved.interpolation not in MODES:
        raise InputError(f"unknown interpolation {resolved.interpolation!r}", suggestion=f"one of {', '.join(MODES)}")
    return resolved


def fit(image: Tensor, to: Preprocessing) -> Tensor:
    """Resize the short side and cut out the centre, as evaluation does: uint8 [c, h, w] -> uint8 [c, *to.size].

    The centre crop keeps `crop_fraction` of the resized image. Nothing is cut off an image no larger than the target:
    its borders are content, not background (8x8 digits).
    """
    height, width = image.shape[-2:]
    target_height, target_width = to.size
    small = height <= target_height and width <= target_width
    fraction = 1.0 if small else to.crop_fraction
    scale = max(math.floor(target_height / fraction) / height, math.floor(target_width / fraction) / width)
    image = _middle(image, scale, to.size)
    resized = [math.floor(side * scale + 1e-6) for side in image.shape[-2:]]  # the bit keeps 223.99999999999997 at 224
    cropped: Tensor = functional.center_crop(resize(image, resized, to.interpolation), [target_height, target_width])
    return cropped


def _middle(image: Tensor, scale: float, size: Sequence[int]) -> Tensor:
    """The image, or of a very elongated one the part around its centre: the rest is cropped away, and resized with it
    a strip of 1 x 20,000 pixels would take gigabytes."""
    for axis, target in ((-2, size[0]), (-1, size[1])):
        side = image.shape[axis]
        seen = math.ceil(ELONGATED * target / scale)
        if side > seen:
            image = image.narrow(axis, (side - seen) // 2, seen)
    return image


def resize(image: Tensor, size: Sequence[int], interpolation: str) -> Tensor:
    """uint8 [c, h, w] -> uint8 [c, *size], antialiased."""
    if list(image.shape[-2:]) == list(size):
        return image
    if interpolation == "lanczos":  # torch has no lanczos; PIL does
        pil = functional.resize(functional.to_pil_image(image), list(size), MODES[interpolation])
        resized: Tensor = functional.pil_to_tensor(pil)
    else:
        resized = functional.resize(image, list(size), MODES[interpolation], antialias=True)
    return resized


def augmentation(name: Augmentation, to: Preprocessing) -> Callable[[Tensor], Tensor]:
    """The random transform of one image, uint8 [c, h, w] -> uint8 [c, *to.size], drawn from torch's CPU generator."""
    if isinstance(name, tuple):
        return InOrder([make_transform(value, to) for value in name], to)
    if is_given(name):
        return GivenTransform(name, find_given("transforms", name), to)
    mode = MODES[to.interpolation] if to.interpolation != "lanczos" else InterpolationMode.BICUBIC
    steps: list[Callable[[Tensor], Tensor]] = [
        v2.RandomResizedCrop(to.size, scale=(SMALLEST_CROP, 1.0), interpolation=mode, antialias=True),
        v2.RandomHorizontalFlip(),
    ]
    if name == "randaugment":
        steps.append(v2.RandAugment())
    elif name == "trivial":
        steps.append(v2.TrivialAugmentWide())
    composed: Callable[[Tensor], Tensor] = v2.Compose(steps)
    return composed


def make_transform(value: Named, to: Preprocessing) -> GivenTransform:
    """The transform that a recipe's `value` names; a crop's `size` is the network's where it is left out.

    Raises InputError for a name that nothing has, and for arguments that it does not take.
    """
    name, arguments = (value, {}) if isinstance(value, str) else next((n, dict(given)) for n, given in value.items())
    factory, component = find("transforms", name), component_of("transforms", name)
    assert factory is not None
    if component is None:
        arguments = {**{key: list(to.size) for key in FILLED.get(name, ())}, **arguments}
        if isinstance(word := arguments.get("interpolation"), str):
            arguments["interpolation"] = InterpolationMode(word)  # what torchvision before 0.25 takes
    try:
        made = guarded(lambda: bound("transforms", factory, arguments))
    except PluginError as failure:
        raise InputError(f"transform {name}: {failure}") from failure
    said = name if component is None else f"{component.name} ({component.distribution} {component.version})"
    return GivenTransform(said, made, to)


def check_transform(value: Named, to: Preprocessing) -> None:
    """Raises InputError for a transform that cannot be made, or does not work on an image of the network's size."""
    image = (torch.arange(to.channels * to.size[0] * to.size[1]) % 251).to(torch.uint8).view(to.channels, *to.size)
    try:
        seeded(make_transform(value, to), image, 0)
    except WorkError as error:
        raise InputError(error.problems) from error


class InOrder:
    """Transforms one after the other; the result is fitted to the network's size."""

    def __init__(self, transforms: Sequence[GivenTransform], to: Preprocessing) -> None:
        self.transforms, self.to = transforms, to

    def __call__(self, image: Tensor) -> Tensor:
        for transform in self.transforms:
            image = transform.changed(image)
        return fit(image, self.to)


class GivenTransform:
    """A transform of the caller's, checked against the contract of zoo's own; an image of another size is fitted."""

    def __init__(self, name: str, transform: Callable[[Tensor], Any], to: Preprocessing) -> None:
        self.name, self.transform, self.to = name, transform, to

    def __call__(self, image: Tensor) -> Tensor:
        """uint8 [c, h, w] -> uint8 [c, *to.size]; see `changed`."""
        return fit(self.changed(image), self.to)

    def changed(self, image: Tensor) -> Tensor:
        """uint8 [c, h, w] -> uint8 [c, h', w']. Raises InputError where the transform gives anything else, WorkError
        where it fails."""
        try:
            made = self.transform(image)
        except Exception as error:
            raise WorkError(f"{self.name} failed on an image: {type(error).__name__}: {error}") from error
        if isinstance(made, Tensor) and made.dtype == torch.uint8 and made.ndim == 3 and made.numel():
            return made
        shape = f"{made.dtype} {list(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
        raise InputError(
            f"{self.name} gives {shape}; a transform takes and gives a uint8 tensor [channels, height, width]",
            suggestion="leave out ToTensor, ConvertImageDtype and Normalize: zoo scales and normalises",
        )


def seeded(transform: Callable[[Tensor], Tensor], image: Tensor, *key: int) -> Tensor:
    """`transform(image)` with random numbers that depend on `key` alone, in whatever process it runs.

    The state of the CPU generator is restored afterwards, for a plugin's transforms those of Python and numpy as well;
    others are not touched.
    """
    seed, foreign = derived_seed(*key), not isinstance(transform, v2.Transform)
    before = torch.default_generator.get_state()
    others = (random.getstate(), np.random.get_state()) if foreign else None
    torch.default_generator.manual_seed(seed)
    if foreign:
        random.seed(seed)
        np.random.seed(seed % 2**32)
    try:
        return transform(image)
    finally:
        torch.default_generator.set_state(before)
        if others is not None:
            random.setstate(others[0])
            np.random.set_state(others[1])


def derived_seed(*key: int) -> int:
    """A seed that is independent of those of other keys."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def normalise(images: Tensor, to: Preprocessing) -> Tensor:
    """uint8 [b, c, h, w] -> float32 on the same device: scaled to 0..1, minus mean, by std.

    Bit-equal with torchvision's and timm's ToTensor and Normalize.
    """
    mean, std = _constants(to.mean, to.std, images.device)
    return images.to(torch.float32).div_(255).sub_(mean).div_(std)


@functools.lru_cache(maxsize=16)  # made once a device: a copy in every step would make a GPU wait
def _constants(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.tensor(mean, device=device).view(-1, 1, 1), torch.tensor(std, device=device).view(-1, 1, 1)
