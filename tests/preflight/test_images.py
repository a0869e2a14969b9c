"""A network built for the images of the data section, every mistake at its place, every cure tried."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def folder(tmp_path):
    """Colour images, and arrays of six bands, in two classes each."""
    for kind in ("colours", "bands"):
        for name in ("cat", "dog"):
            (tmp_path / kind / name).mkdir(parents=True)
            for place in range(4):
                path, random = tmp_path / kind / name / str(place), np.random.default_rng(place)
                if kind == "colours":
                    Image.fromarray(random.integers(0, 255, (20, 20, 3), np.uint8)).save(f"{path}.png")
                else:
                    np.save(f"{path}.npy", random.integers(0, 4000, (20, 20, 6), np.uint16))


def recipe(data: str, model: str = "timm/test_vit", steps: str = "[{swap_head: auto}, {train: 1}]") -> str:
    return f"model: {model}\ndata: {{source: zoo/image_folder, {data}, batch_size: 4}}\nsteps: {steps}\n"


def messages(verdict) -> str:
    return "\n".join(map(str, verdict.errors))


@pytest.mark.parametrize(
    ("data", "shape", "built"),
    [
        ("path: colours, image_size: 96", (2, 3, 96, 96), {"img_size": 96}),
        ("path: colours, image_size: [96, 64]", (2, 3, 96, 64), {"img_size": [96, 64]}),
        ("path: colours, channels: 1", (2, 1, 160, 160), {"in_chans": 1}),
        ("path: bands, image_size: 32, channels: 6", (2, 6, 32, 32), {"img_size": 32, "in_chans": 6}),
        ("path: colours, image_size: 160", (2, 3, 160, 160), {}),
    ],
)
def test_the_data_section_decides_how_it_is_built(checked, data, shape, built):
    verdict = checked(recipe(data))
    assert not verdict.errors
    assert (verdict.input_shape, verdict.built_for, verdict.arguments) == (shape, built, built)
    assert verdict.output_shape == (2, 2)
    assert bool(verdict.fitted) == bool(built)


MISTAKES = {
    "image_size: 100": (":2:49: image_size 100 x 100 is no multiple", "image_size: 96"),
    "channels: 6": ("with 3 channels does not fit a network that takes 6 (build the network for it: data.channels: 3",
                    "channels: 3"),
    "channels: 1, mean: [0.4, 0.5, 0.6]": ("data.mean has 3 values", "channels: 1, mean: [0.5]"),
    "range: [1, 0]": ("the second value becomes 1", "range: [0, 1]"),
}  # fmt: skip


@pytest.mark.parametrize("data", MISTAKES)
def test_each_mistake_is_one_and_its_cure_works(checked, data):
    verdict = checked(recipe(f"path: colours, {data}"))
    said, cure = MISTAKES[data]
    assert said in messages(verdict)
    assert len(verdict.errors) == 1
    assert not checked(recipe(f"path: colours, {cure}")).errors


def test_a_builder_without_channels_says_to_adapt_the_input(checked):
    without = checked(recipe("path: colours, image_size: 32, channels: 1", "torchvision/resnet18"))
    assert [str(error).partition("recipe.yaml")[2] for error in without.errors] == [
        ":2:65: torchvision/resnet18 takes 3 channels, and its builder no number of them "
        "(put adapt_input: auto in front of the steps)"
    ]
    steps = "[{adapt_input: auto}, {swap_head: auto}, {train: 1}]"
    cured = checked(recipe("path: colours, image_size: 32, channels: 1", "torchvision/resnet18", steps))
    assert not cured.errors
    assert cured.output_shape == (2, 2)


def test_what_is_said_twice_is_refused(checked):
    model = "{architecture: timm/test_resnet, arguments: {in_chans: 1}}"
    verdict = checked(recipe("path: colours, channels: 3", model))
    assert "data.channels is 3, and the network is built with in_chans: 1 (remove data.channels" in messages(verdict)
    assert not checked(recipe("path: colours", model)).errors


@pytest.mark.parametrize("augmentation", ["randaugment", "trivial"])
def test_changes_of_colours_are_refused_for_bands(checked, augmentation):
    data = f"path: bands, image_size: 32, channels: 6, augmentation: {augmentation}"
    verdict = checked(recipe(data, "timm/test_resnet"))
    assert "works on images of 1 or 3 channels; the network takes 6" in messages(verdict)
    assert ":2:" in messages(verdict)
    assert not checked(recipe(data.replace(augmentation, "crop_flip"), "timm/test_resnet")).errors
    jitter = checked(recipe("path: bands, channels: 6, transforms: [{ColorJitter: {hue: 0.1}}]", "timm/test_resnet"))
    assert "ColorJitter works on images of 1 or 3 channels" in messages(jitter)


def test_bands_normalised_by_colours_are_said(checked):
    data = "path: bands, image_size: 32, channels: 6"
    (warning,) = checked(recipe(data, "timm/test_resnet")).warnings
    assert "6 channels are normalised by the means of red, green and blue in turn" in warning.message
    assert not checked(recipe(f"{data}, mean: measure, std: measure", "timm/test_resnet")).warnings


def test_floating_point_of_unknown_white_is_said_before_training(checked, tmp_path):
    for path in Path(tmp_path / "bands").rglob("*.npy"):
        np.save(path, np.load(path).astype(np.float32))
    data = "path: bands, image_size: 32, channels: 6, mean: measure, std: measure"
    verdict = checked(recipe(data, "timm/test_resnet"))
    assert "what is white cannot be known (say it, data.range" in messages(verdict)
    for cure in ("range: [0, 4000]", "range: measure"):
        assert not checked(recipe(f"{data}, {cure}", "timm/test_resnet")).errors
