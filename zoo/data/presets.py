"""The words of `data.augmentation`: each stands for a list of torchvision's transforms, as `data.transforms` has them.

`light` and `strong` are fitted to the data: images without colour are not mirrored, since characters, X-rays and scans
have a left and a right; and what torchvision has for 1 or 3 channels only is left out on other images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from zoo.recipe.options import Named

CROP: Named = {
    "RandomResizedCrop": {"scale": [0.35, 1.0]}
}  # torchvision's 0.08 is for training from scratch on much data
FLIP = "RandomHorizontalFlip"
FITTED = ("light", "strong")
# classes of torchvision that work on 1 or 3 channels only
OF_COLOURS = frozenset(
    {
        *("AugMix", "AutoAugment", "RandAugment", "TrivialAugmentWide", "JPEG", "RGB", "Grayscale", "RandomGrayscale"),
        *("ColorJitter", "RandomAdjustSharpness", "RandomAutocontrast", "RandomPhotometricDistort"),
    }
)


@dataclass(frozen=True)
class Preset:
    """Transforms of single images, in their order, and the train step's `mixup` and `cutmix` where it names none."""

    transforms: tuple[Named, ...]
    mixing: Mapping[str, float] = field(default_factory=dict)


PRESETS = {
    "crop_flip": Preset((CROP, FLIP)),
    "randaugment": Preset((CROP, FLIP, "RandAugment")),
    "trivial": Preset((CROP, FLIP, "TrivialAugmentWide")),
    # fastai's aug_transforms: zoom up to 1.1 (an area of 0.83), lighting 0.2
    "light": Preset(
        (
            {"RandomResizedCrop": {"scale": [0.8, 1.0], "ratio": [0.9, 1.11]}},
            FLIP,
            {"ColorJitter": {"brightness": 0.2, "contrast": 0.2}},
        )
    ),
    # RandAugment: 2 operations of magnitude 9 (Cubuk et al., 2020); erasing 0.25: timm's DeiT (Touvron et al., 2021);
    # mixing: torchvision's references/classification
    "strong": Preset(
        (
            CROP,
            FLIP,
            {"RandAugment": {"num_ops": 2, "magnitude": 9, "interpolation": "bilinear"}},
            {"RandomErasing": {"p": 0.25}},
        ),
        {"mixup": 0.2, "cutmix": 1.0},
    ),
}


def transforms_of(word: str, *, channels: int = 3, colours: bool = True) -> tuple[Named, ...]:
    """The transforms that a word stands for, on images of so many channels, with `colours` or in grey alone."""
    given = PRESETS[word].transforms
    if word not in FITTED:
        return given
    unfit = set() if channels in (1, 3) else OF_COLOURS
    unfit = unfit if colours else {*unfit, FLIP}
    return tuple(each for each in given if (each if isinstance(each, str) else next(iter(each))) not in unfit)


def mixing_of(word: str) -> Mapping[str, float]:
    """`mixup` and `cutmix` of a word, as options of a train step; nothing for most."""
    return PRESETS[word].mixing if word in PRESETS else {}
