"""From decoded image to network input: resize and crop, random augmentation, normalise (per batch).

Images are uint8, or, where the preprocessing has a range, float32 of 0..1; a transform gives the dtype that it takes.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode, functional

from zoo.contracts import Preprocessing, ValueRange
from zoo.data.presets import OF_COLOURS, PRESETS, transforms_of
from zoo.errors import InputError, WorkError, ZooError, did_you_mean
from zoo.given import find_given, is_given
from zoo.isolation import PluginError, failure_of, guarded
from zoo.model.preprocessing import with_channels
from zoo.recipe.catalogue import FILLED, OF_TRANSFORMS, bound, component_of, find
from zoo.recipe.options import DataOptions, Named

MODES = {
    "nearest": InterpolationMode.NEAREST_EXACT,
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "lanczos": InterpolationMode.LANCZOS,
}
TENSOR_MODES = ("nearest", "nearest-exact", "bilinear", "bicubic")
MOST = {"mean": 1.0, "std": 2.0}  # of values scaled to 0..1; a std of 1 leaves them as they are
DRAWS = 3  # of one seed, which show whether a transform goes by it
ELONGATED = 16  # how many times the crop the resized image may be long; more of it is not resized


Augmentation = str | tuple[Named, ...]  # `none`, `flip` or an object handed over; or transforms, in their order


def changes_of(options: DataOptions, *, channels: int = 3, colours: bool = True) -> Augmentation:
    """How training images of so many channels, with `colours` or in grey alone, are changed at random; `none` where
    they are not."""
    word = options.augmentation
    if options.transforms or word not in PRESETS:
        return tuple(options.transforms) or word
    return transforms_of(word, channels=channels, colours=colours)


def said_of(options: DataOptions) -> str:
    """What a sentence calls the random changes to training images."""
    return "data.transforms" if options.transforms else f"augmentation: {options.augmentation}"


def is_random_per_image(augmentation: Augmentation) -> bool:
    """Whether each image is changed by itself as it is decoded; otherwise batches are, or nothing is."""
    return isinstance(augmentation, tuple) or is_given(augmentation)


def identity_of(augmentation: Augmentation) -> str:
    """What cached features depend on: the names and arguments, and of plugins' transforms also their versions."""
    if isinstance(augmentation, str):
        return augmentation
    rows = [component_of("transforms", name) for value in augmentation for name in _names(value)]
    return f"{augmentation} {[(row.distribution, row.version) for row in rows if row is not None]}"


def _names(value: Named) -> Iterator[str]:
    """The name of a transform, and those of the transforms among its arguments."""
    name, arguments = _split(value)
    yield name
    for inner in arguments.get("transforms", ()) if name in OF_TRANSFORMS else ():
        yield from _names(inner)


def _split(value: Named) -> tuple[str, dict[str, Any]]:
    return (value, {}) if isinstance(value, str) else next((name, dict(given)) for name, given in value.items())


def resolve(preprocessing: Preprocessing, options: DataOptions) -> Preprocessing:
    """The weights' preprocessing, overridden by what `data:` says. Raises InputError where mean or std do not fit."""
    size = options.image_size
    changes: dict[str, Any] = {
        "size": (size, size) if isinstance(size, int) else size,
        "mean": tuple(options.mean) if isinstance(options.mean, list) and options.mean else None,
        "std": tuple(options.std) if isinstance(options.std, list) and options.std else None,
        "interpolation": options.interpolation,
        "layout": options.layout if options.layout != "auto" else None,
        "range": _range_of(options),
    }
    if options.channels != "auto":
        preprocessing = with_channels(preprocessing, options.channels)
    resolved = replace(preprocessing, **{key: value for key, value in changes.items() if value is not None})
    if options.range == "uint8":
        resolved = replace(resolved, range=None)
    for name in ("mean", "std"):
        values = getattr(resolved, name)
        if len(values) not in (1, resolved.channels):
            raise InputError(f"data.{name} has {len(values)} values; the network takes {resolved.channels} channels")
    for name, most in MOST.items():
        given = getattr(options, name)
        if isinstance(given, list) and given and max(map(abs, given)) > most:
            scaled = ", ".join(f"{value / 255:.4g}" for value in given)
            message = f"data.{name} is {list(given)}: it is of values scaled to 0..1, and these look like 0..255"
            raise InputError(message, suggestion=f"write [{scaled}]")
    if not all(value > 0 for value in resolved.std):
        raise InputError(f"data.std {list(resolved.std)}: every value must be above 0")
    if resolved.interpolation not in MODES:
        raise InputError(f"unknown interpolation {resolved.interpolation!r}", suggestion=f"one of {', '.join(MODES)}")
    return resolved


def _range_of(options: DataOptions) -> ValueRange:
    """What the recipe itself says; None where images, or their measurement, decide."""
    if isinstance(options.range, list):
        low, high = options.range
        if not low < high:
            raise InputError(f"data.range is {options.range}: the second value becomes 1, and has to be the larger one")
        return low, high
    return "dtype" if options.range == "dtype" else None


def fit(image: Tensor, to: Preprocessing) -> Tensor:
    """Resize the short side and cut out the centre, as evaluation does: [c, h, w] -> [c, *to.size] of the same dtype.

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
    """[c, h, w] -> [c, *size] of the same dtype, antialiased."""
    if list(image.shape[-2:]) == list(size):
        return image
    if interpolation == "lanczos":  # torch has no lanczos; PIL does, of uint8 in up to four channels or of one float
        together = image.dtype == torch.uint8 and len(image) in (1, 3)
        parts = [image] if together else [band[None] for band in image]
        resized: Tensor = torch.cat([_by_pil(part, size) for part in parts])
    else:
        resized = functional.resize(image, list(size), MODES[interpolation], antialias=True)
    return resized


def _by_pil(image: Tensor, size: Sequence[int]) -> Tensor:
    mode = "F" if image.is_floating_point() else None  # without it floats become bytes
    pil = functional.resize(functional.to_pil_image(image, mode), list(size), MODES["lanczos"])
    resized: Tensor = functional.pil_to_tensor(pil)
    return resized


def augmentation(given: Augmentation, to: Preprocessing) -> Callable[[Tensor], Tensor]:
    """The random transform of one image, [c, h, w] -> [c, *to.size] of its dtype, drawn from torch's CPU generator."""
    if isinstance(given, str):
        return GivenTransform(given, find_given("transforms", given), to)
    return InOrder([make_transform(value, to) for value in given], to)


def make_transform(value: Named, to: Preprocessing) -> GivenTransform:
    """The transform that a recipe's `value` names. Left out, a crop's `size` and `interpolation` are the network's, and
    `RandomErasing` paints with the mean colour, as where it comes behind normalisation.

    Raises InputError for a name that nothing has, for arguments that it does not take, and where it does not work on
    as many channels.
    """
    name, arguments = _split(value)
    factory, component = find("transforms", name), component_of("transforms", name)
    assert factory is not None
    if component is None:
        _check_values(name, arguments, to)
        arguments = {**{key: _filled(key, to) for key in FILLED.get(name, ())}, **arguments}
        if isinstance(word := arguments.get("interpolation"), str):
            arguments["interpolation"] = _interpolation(name, word)
        if name in OF_TRANSFORMS:
            arguments["transforms"] = [make_transform(inner, to).changed for inner in arguments["transforms"]]
    try:
        made = guarded(lambda: bound("transforms", factory, arguments))
    except PluginError as failure:
        raise InputError(f"transform {name}: {failure}") from failure
    said = name if component is None else f"{component.name} ({component.distribution} {component.version})"
    return GivenTransform(said, made, to)


def _filled(key: str, to: Preprocessing) -> Any:
    """What an argument is that a recipe leaves out."""
    if key == "value":
        white = 255 if to.range is None else 1
        return [min(max(white * mean, 0), white) for mean in to.mean]
    return list(to.size) if key == "size" else MODES["bicubic" if to.interpolation == "lanczos" else to.interpolation]


def _check_values(name: str, arguments: Mapping[str, Any], to: Preprocessing) -> None:
    """Raises InputError for what torchvision takes and images do not: other channels, and noise around 0."""
    if name in OF_COLOURS and to.channels not in (1, 3):
        message = f"transform {name} works on images of 1 or 3 channels; the network takes {to.channels}"
        raise InputError(message, suggestion="RandomAffine, RandomErasing, GaussianBlur and flips work on any number")
    if name == "RandomErasing" and arguments.get("value") == "random":
        message = "transform RandomErasing: value 'random' is noise around 0, for images that are normalised already"
        raise InputError(message, suggestion="leave value out for the mean colour, or write a number from 0 to 255")


def _interpolation(name: str, word: str) -> InterpolationMode:
    """torchvision's member of a word (before 0.25 it takes no words); `nearest` is its own, not PIL's."""
    if word not in TENSOR_MODES:
        hint = did_you_mean(word, TENSOR_MODES) or f"one of {', '.join(TENSOR_MODES)}"
        raise InputError(f"transform {name}: interpolation {word!r} does not work on tensors", suggestion=hint)
    return InterpolationMode(word)


def name_of(value: Named) -> str:
    """What a recipe calls a transform."""
    return _split(value)[0]


def check_transform(value: Named, to: Preprocessing) -> bool:
    """Whether a transform draws its random numbers from generators that zoo seeds: it then gives the same for the same
    seed. Raises InputError for one that cannot be made, or does not work on an image of the network's size; so for
    those among its arguments, whether or not a draw would choose them."""
    name, arguments = _split(value)
    inner = [check_transform(each, to) for each in arguments.get("transforms", ()) if name in OF_TRANSFORMS]
    image = (torch.arange(to.channels * to.size[0] * to.size[1]) % 251).to(torch.uint8).view(to.channels, *to.size)
    if to.range is not None:
        image = image / 255
    try:
        transform = make_transform(value, to)
        first, *again = (seeded(transform, image, 0) for _ in range(DRAWS))
    except WorkError as error:
        raise InputError(error.problems) from error
    return all(inner) and all(torch.equal(first, other) for other in again)


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
        """[c, h, w] -> [c, *to.size]; see `changed`."""
        return fit(self.changed(image), self.to)

    def changed(self, image: Tensor) -> Tensor:
        """[c, h, w] -> [c, h', w'] of the same dtype. Raises InputError where the transform gives anything else,
        WorkError where it fails."""
        try:
            made = self.transform(image)
        except ZooError:  # of a transform inside this one
            raise
        except Exception as error:
            raise WorkError(f"{self.name} failed on an image: {failure_of(error)}") from error
        if isinstance(made, Tensor) and made.dtype == image.dtype and made.ndim == 3 and made.numel():
            if len(made) != len(image):
                message = f"{self.name} makes {len(made)} channels of {len(image)}"
                raise InputError(message, suggestion=f"the network takes {self.to.channels}")
            return made
        kind = str(image.dtype).removeprefix("torch.")
        shape = f"{made.dtype} {list(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
        raise InputError(
            f"{self.name} gives {shape}; a transform takes and gives a {kind} tensor [channels, height, width]",
            suggestion="leave out ToTensor, ConvertImageDtype and Normalize: zoo scales and normalises",
        )


Given = TypeVar("Given")
Made = TypeVar("Made")


def seeded(transform: Callable[[Given], Made], image: Given, *key: int) -> Made:
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
    """[b, c, h, w] -> float32 on the same device: uint8 scaled to 0..1, minus mean, by std.

    Bit-equal with torchvision's and timm's ToTensor and Normalize.
    """
    mean, std = _constants(to.mean, to.std, images.device)
    scaled = images.to(torch.float32).div_(255) if images.dtype == torch.uint8 else images
    return scaled.sub(mean).div_(std) if scaled is images else scaled.sub_(mean).div_(std)


@functools.lru_cache(maxsize=16)  # made once a device: a copy in every step would make a GPU wait
def _constants(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.tensor(mean, device=device).view(-1, 1, 1), torch.tensor(std, device=device).view(-1, 1, 1)
