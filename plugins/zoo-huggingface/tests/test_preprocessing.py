"""`preprocessor_config.json`: sizes, crops and normalisations as transformers' processors carry them out."""

import json

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from zoo_huggingface.preprocessing import read_preprocessing

from zoo.errors import InputError

EDGE, LEVIT = {"shortest_edge": 256}, {"image_processor_type": "LevitImageProcessor"}


@pytest.fixture
def said(tmp_path, processor):
    """What a file with these values in place of the usual ones, or without those that are None, says."""

    def read(**values):
        own = {key: value for key, value in {**processor, **values}.items() if value is not None}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(own))
        return read_preprocessing(str(tmp_path))

    return read


@pytest.mark.parametrize(
    ("values", "size", "fraction"),
    [
        ({}, (32, 32), 1.0),
        ({"size": 48}, (48, 48), 1.0),
        ({"size": {"height": 24, "width": 48}}, (24, 48), 1.0),
        ({"size": EDGE, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}}, (224, 224), 0.875),
        ({"size": 256, "do_center_crop": True, "crop_size": 224}, (224, 224), 0.875),
        ({"size": EDGE, "do_center_crop": False, "crop_size": 224}, (256, 256), 1.0),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, (224, 224), 0.875),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, (384, 384), 1.0),
        ({**LEVIT, "size": {"shortest_edge": 224}, "do_center_crop": True, "crop_size": 224}, (224, 224), 0.875),
    ],
)
def test_sizes(said, values, size, fraction):
    found = said(**values)
    assert (found.size, found.crop_fraction) == (size, pytest.approx(fraction))


@pytest.mark.parametrize("resample", [0, 1, 2, 3])
def test_interpolation(said, resample):
    assert said(resample=resample).interpolation == Image.Resampling(resample).name.lower()


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"do_normalize": False},
        {"rescale_factor": 1 / 127.5},
        {"do_rescale": False, "image_mean": [100.0, 90.0, 80.0], "image_std": [50.0, 60.0, 70.0]},
        {"image_mean": None, "image_std": None},
    ],
)
def test_pixels_come_out_as_transformers_makes_them(said, processor, values):
    ours = said(**values)
    theirs = transformers.ViTImageProcessor(**{k: v for k, v in {**processor, **values}.items() if v is not None})
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    theirs = theirs(Image.fromarray(pixels), return_tensors="pt")["pixel_values"][0]
    scaled = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(value)[:, None, None] for value in (ours.mean, ours.std))
    torch.testing.assert_close((scaled - mean) / std, theirs, rtol=1e-5, atol=1e-5)


def test_there_may_be_none(tmp_path):
    assert read_preprocessing(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"do_flip_channel_order": True}, "takes blue, green and red"),
        ({"size": {"max_height": 3}}, "does not say how images are prepared"),
        ({"image_std": [0.5, "x", 0.5]}, "does not say how images are prepared"),
    ],
)
def test_what_zoo_cannot_do(said, values, words):
    with pytest.raises(InputError, match=words):
        said(**values)
