"""Resizing, cropping, augmenting and normalising: equal to torchvision's own pipeline, and reproducible."""

from __future__ import annotations

import pickle

import pytest
import torch
from PIL import Image
from torchvision import transforms as v1
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode

from zoo.api import Preprocessing
from zoo.data import transforms
from zoo.data.presets import OF_COLOURS, PRESETS, transforms_of
from zoo.errors import InputError
from zoo.recipe.catalogue import find, names
from zoo.recipe.options import DataOptions


def noise(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(300, 400), (257, 256), (500, 333), (224, 225)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_fit_equals_torchvisions_resize_and_centre_crop(shape, interpolation):
    image = noise(*shape)
    to = Preprocessing(size=(224, 224), interpolation=interpolation, crop_fraction=0.875)
    theirs = v2.Compose([v2.Resize(256, transforms.MODES[interpolation]), v2.CenterCrop(224)])(image)
    assert torch.equal(transforms.fit(image, to), theirs)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_fit_is_near_pils_resize(interpolation):
    image = noise(60, 60)
    to = Preprocessing(size=(32, 32), interpolation=interpolation, crop_fraction=1.0)
    pil = v2.functional.to_pil_image(image).resize((32, 32), getattr(Image.Resampling, interpolation.upper()))
    difference = transforms.fit(image, to).int() - v2.functional.pil_to_tensor(pil).int()
    assert difference.abs().max() <= 1


def test_fit_gives_the_size_whatever_the_image():
    to = Preprocessing(size=(48, 80))
    for shape in ((8, 8), (1, 500), (48, 80), (47, 81), (200, 90), (1000, 31)):
        assert transforms.fit(noise(*shape), to).shape == (3, 48, 80)


def test_small_images_are_enlarged_whole():
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    image[:, 0] = 255  # a border that a centre crop would cut off
    fitted = transforms.fit(image, Preprocessing(size=(32, 32), interpolation="nearest", crop_fraction=0.5))
    assert (fitted[:, :4] == 255).all()
    assert (fitted[:, 4:] == 0).all()
    same = noise(32, 32)
    assert torch.equal(transforms.fit(same, Preprocessing(size=(32, 32))), same)


def test_normalise_equals_torchvision():
    images = torch.stack([noise(16, 16), noise(16, 16)])
    to = Preprocessing()
    theirs = torch.stack([v1.Normalize(to.mean, to.std)(image.float().div(255)) for image in images])
    assert torch.equal(transforms.normalise(images, to), theirs)


def test_recipe_values_go_over_the_weights():
    options = DataOptions(source="x", image_size=96, mean=[0.5], std=[0.25], interpolation="bicubic")
    assert transforms.resolve(Preprocessing(crop_fraction=0.9), options) == Preprocessing(
        (96, 96), (0.5,), (0.25,), "bicubic", 0.9
    )
    assert transforms.resolve(Preprocessing(), DataOptions(source="x", image_size=(64, 32))).size == (64, 32)
    with pytest.raises(InputError, match=r"data.mean has 2 values; the network takes 3"):
        transforms.resolve(Preprocessing(), DataOptions(source="x", mean=[0.1, 0.2]))
    with pytest.raises(InputError, match="every value must be above 0"):
        transforms.resolve(Preprocessing(), DataOptions(source="x", std=[0.1, 0.2, 0.0]))
    with pytest.raises(InputError, match="unknown interpolation 'box'"):
        transforms.resolve(Preprocessing(interpolation="box"), DataOptions(source="x"))


@pytest.mark.parametrize("name", PRESETS)
def test_augmentation_depends_on_its_key_alone(name):
    transform = transforms.augmentation(transforms_of(name), Preprocessing(size=(24, 24), interpolation="lanczos"))
    image = noise(40, 30)
    torch.manual_seed(1)
    first = transforms.seeded(transform, image, 0, 3, 7)
    expected = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), expected)  # the global generator was put back
    assert torch.equal(first, transforms.seeded(transform, image, 0, 3, 7))
    assert not torch.equal(first, transforms.seeded(transform, image, 0, 4, 7))
    assert (first.shape, first.dtype) == ((3, 24, 24), torch.uint8)


ACME = """
import random
import numpy as np
import torch
def draws(image, *, how: str):
    value = {"torch": torch.rand(()), "numpy": np.random.rand(), "python": random.random()}[how]
    return image.clone().fill_(int(value * 250))
def floats(image): return image / 255
def fails(image): raise ValueError("no")
"""
TO = Preprocessing(size=(24, 24))


@pytest.fixture
def acme(plugins):
    plugins.write(
        "zoo-acme",
        "[zoo.transforms]\ndraws = acme_t:draws\nfloats = acme_t:floats\nfails = acme_t:fails\n",
        acme_t=ACME,
    )


def test_torchvisions_transforms_in_their_order():
    first, then = {"RandomRotation": {"degrees": 90, "interpolation": "bilinear"}}, {"CenterCrop": {"size": [12, 12]}}
    image = noise(40, 30)
    made = transforms.seeded(transforms.augmentation((first, then), TO), image, 5)
    turned = transforms.seeded(v2.RandomRotation(90, InterpolationMode.BILINEAR), image, 5)
    assert torch.equal(made, transforms.fit(v2.CenterCrop([12, 12])(turned), TO))
    assert not torch.equal(made, transforms.seeded(transforms.augmentation((then, first), TO), image, 5))


def test_a_crop_without_a_size_is_the_networks():
    made = transforms.make_transform("RandomResizedCrop", TO).changed(noise(40, 30))
    assert made.shape == (3, 24, 24)


@pytest.mark.parametrize("how", ["torch", "numpy", "python"])
def test_a_plugins_draws_depend_on_the_key_alone(acme, how):
    transform = transforms.augmentation(({"acme/draws": {"how": how}},), TO)
    one, again, other = (transforms.seeded(transform, noise(24, 24), *key) for key in ((0, 1), (0, 1), (0, 2)))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("acme/floats", r"acme/floats \(zoo-acme 1.0\) gives torch.float32 \[3, 24, 24\]"),
        ("acme/fails", r"acme/fails \(zoo-acme 1.0\) failed on an image: ValueError: no"),
        ({"RandomCrop": {"size": [64, 64]}}, "RandomCrop failed on an image"),
        (
            {"GaussianBlur": {"kernel_size": 2}},
            "transform GaussianBlur: ValueError: Kernel size value should be an odd",
        ),
    ],
)
def test_what_does_not_work_is_found_on_one_image(acme, value, said):
    with pytest.raises(InputError, match=said):
        transforms.check_transform(value, TO)


NEEDED = {
    "JPEG": {"quality": 50}, "RandomAdjustSharpness": {"sharpness_factor": 2.0}, "RandomPosterize": {"bits": 3},
    "RandomSolarize": {"threshold": 100}, "Pad": {"padding": 2}, "RandomAffine": {"degrees": 10},
    "RandomRotation": {"degrees": 10}, "RandomResize": {"min_size": 20, "max_size": 30},
    "RandomShortestSize": {"min_size": [20]}, "ScaleJitter": {"target_size": [30, 30]},
    "GaussianBlur": {"kernel_size": 3}, "Grayscale": {"num_output_channels": 3},
    "ColorJitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
    **{key: {"transforms": ["RandomErasing"]} for key in ("RandomApply", "RandomChoice", "RandomOrder")},
}  # fmt: skip


@pytest.mark.parametrize("name", names("transforms"))
def test_every_transform_that_is_offered_works_on_an_image(name):
    transforms.check_transform({name: NEEDED[name]} if name in NEEDED else name, TO)


@pytest.mark.parametrize("channels", [1, 4, 6])
@pytest.mark.parametrize("name", sorted({*names("transforms")} - {"Grayscale", "RGB"}))
def test_every_transform_works_on_so_many_channels_or_is_refused(name, channels):
    """Whatever it draws: of RandAugment's operations, say, some work on any number of channels."""
    to = Preprocessing(size=(24, 24), mean=(0.5,) * channels, std=(0.5,) * channels, channels=channels)
    value = {name: NEEDED[name]} if name in NEEDED else name
    if name in OF_COLOURS and channels != 1:
        with pytest.raises(
            InputError, match=f"{name} works on images of 1 or 3 channels; the network takes {channels}"
        ):
            transforms.check_transform(value, to)
        return
    image = torch.arange(channels * 576).to(torch.uint8).view(channels, 24, 24)
    transform = transforms.augmentation((value,), to)
    for draw in range(40):
        made = transforms.seeded(transform, image, draw)
        assert (made.dtype, made.shape) == (torch.uint8, image.shape)


@pytest.mark.parametrize("name", sorted(OF_COLOURS - {"RGB"}))
def test_what_is_refused_on_four_channels_would_fail(name):
    factory = find("transforms", name)(**NEEDED.get(name, {}))
    image = torch.arange(4 * 256).to(torch.uint8).view(4, 16, 16)
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        [transforms.seeded(factory, image, draw) for draw in range(100)]


def test_transforms_of_transforms():
    image, rotated = noise(24, 24), {"RandomRotation": {"degrees": [90, 90]}}
    turned = v2.RandomRotation([90, 90])(image)
    always = {"RandomApply": {"transforms": [rotated, "RandomInvert"], "p": 1}}
    made = transforms.seeded(transforms.augmentation((always,), TO), image, 1)
    assert torch.equal(made, turned) or torch.equal(made, 255 - turned)
    never = {"RandomApply": {"transforms": [rotated], "p": 0.0}}
    assert torch.equal(transforms.augmentation((never,), TO)(image), image)
    one_of = {
        "RandomChoice": {"transforms": [rotated, {"RandomApply": {"transforms": ["RandomErasing"]}}], "p": [1, 0]}
    }
    made = transforms.seeded(transforms.augmentation((one_of,), TO), image, 1)
    assert torch.equal(made, turned)
    assert torch.equal(pickle.loads(pickle.dumps(transforms.make_transform(one_of, TO)))(image), turned)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"RandomApply": {"transforms": ["acme/fails"], "p": 0.0}}, "acme/fails .* failed on an image"),
        ({"RandomChoice": {"transforms": ["RandomErasing"], "p": [1, 2]}}, "transform RandomChoice: .*Length of p"),
        ({"RandomErasing": {"value": "random"}}, "value 'random' is noise around 0"),
        ({"RandomErasing": {"p": 2}}, "transform RandomErasing: ValueError"),
        ({"RandomRotation": {"degrees": 9, "interpolation": "bilinaer"}}, "interpolation 'bilinaer' does not work"),
        (
            {"Resize": {"interpolation": "lanczos"}},
            "transform Resize: interpolation 'lanczos' does not work on tensors",
        ),
        ({"Grayscale": {"num_output_channels": 1}}, "Grayscale makes 1 channels of 3"),
    ],
)
def test_what_would_go_wrong_sooner_or_later(acme, value, said):
    with pytest.raises(InputError, match=said):
        transforms.check_transform(value, TO)


def test_what_is_left_out_is_the_networks():
    to = Preprocessing(size=(12, 12), interpolation="bicubic")
    erasing, crop = (transforms.make_transform(name, to).transform for name in ("RandomErasing", "RandomResizedCrop"))
    assert erasing.value == pytest.approx([255 * mean for mean in to.mean])  # as behind normalisation, where that is 0
    assert (list(crop.size), crop.interpolation) == ([12, 12], InterpolationMode.BICUBIC)
    given = {"RandomErasing": {"value": [1, 2, 3]}}, {"RandomRotation": {"degrees": 9, "fill": [1, 2, 3]}}
    for value in given:
        transforms.check_transform(value, to)


def test_light_and_strong_are_fitted_to_the_data():
    crop, flip, _ = transforms_of("light")
    assert transforms_of("light", colours=False) == (crop, {"ColorJitter": {"brightness": 0.2, "contrast": 0.2}})
    assert transforms_of("light", channels=6) == (crop, flip)
    strong = [next(iter(each)) if isinstance(each, dict) else each for each in transforms_of("strong", channels=4)]
    assert strong == ["RandomResizedCrop", "RandomHorizontalFlip", "RandomErasing"]
    assert transforms_of("trivial", channels=4, colours=False) == PRESETS["trivial"].transforms  # as it is written


def test_cached_features_belong_to_the_plugins_version(acme):
    assert transforms.identity_of(("acme/draws",)) == "('acme/draws',) [('zoo-acme', '1.0')]"
    nested = ({"RandomApply": {"transforms": ["acme/draws"]}},)
    assert transforms.identity_of(nested) == f"{nested} [('zoo-acme', '1.0')]"
    assert transforms.identity_of("flip") == "flip"
