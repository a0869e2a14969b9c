"""Mean, deviation and range of the training part: equal to numpy's on the same pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo.contracts import Data, Preprocessing
from zoo.data.measure import decide_range, measure, to_measure
from zoo.data.open_data import open_data
from zoo.errors import InputError
from zoo.given import given, name_of
from zoo.recipe.options import DataOptions

NAME = name_of(Data([], None))


def opened(images, to=None, **options):
    labelled = [(image, place % 2) for place, image in enumerate(images)]
    with given({"datasets": {NAME: lambda: Data(labelled, labelled[:2])}}):
        return open_data(DataOptions(source=NAME, batch_size=4, workers=0, **options), to or Preprocessing(size=(8, 8)))


def pictures(channels, dtype=np.uint8, most=255, count=10):
    generator = np.random.default_rng(0)
    return [(generator.random((channels, 8, 8)) * most).astype(dtype) for _ in range(count)]


def test_mean_and_std_are_those_of_the_pixels():
    images = pictures(3)
    data = opened([torch.from_numpy(image) for image in images], mean="measure", std="measure")
    assert to_measure(data) == ("mean", "std")
    found = measure(data, to_measure(data))
    pixels = np.stack(images).astype(np.float64) / 255
    assert found.values["mean"] == pytest.approx(pixels.mean((0, 2, 3)), abs=1e-6)
    assert found.values["std"] == pytest.approx(pixels.std((0, 2, 3)), abs=1e-6)
    assert data.preprocessing.mean == tuple(found.values["mean"])
    inputs = torch.cat([batch.inputs for batch in data.batches("train", shuffle=False).epoch(0)])
    assert inputs.mean((0, 2, 3)).tolist() == pytest.approx([0] * 3, abs=1e-4)
    assert inputs.std((0, 2, 3)).tolist() == pytest.approx([1] * 3, abs=1e-3)


def test_a_range_is_measured_first_and_the_rest_within_it():
    images = pictures(6, np.float32, 900.0)
    data = opened([torch.from_numpy(i) for i in images], channels=6, range="measure", mean="measure", std="measure")
    found = measure(data, to_measure(data))
    pixels = np.stack(images).astype(np.float64)
    low, high = found.values["range"]
    assert (low, high) == pytest.approx((pixels.min(), pixels.max()), rel=1e-5)
    assert found.values["mean"] == pytest.approx(((pixels - low) / (high - low)).mean((0, 2, 3)), abs=1e-5)
    assert data.preprocessing.range == (low, high)


def test_only_what_is_asked_for_is_measured():
    data = opened([torch.from_numpy(image) for image in pictures(3)], std="measure")
    before = data.preprocessing.mean
    assert list(measure(data, to_measure(data)).values) == ["std"]
    assert data.preprocessing.mean == before


def test_a_channel_that_never_changes_is_named():
    images = [torch.cat([torch.full((1, 8, 8), 7, dtype=torch.uint8), torch.from_numpy(i)]) for i in pictures(2)]
    data = opened(images, mean="measure", std="measure")
    with pytest.raises(InputError, match=r"channel 0 .* is the same in every pixel"):
        measure(data, to_measure(data))
    flat = opened([torch.full((3, 8, 8), 7, dtype=torch.uint8)] * 4, range="measure")
    with pytest.raises(InputError, match="every value of the training images is 7"):
        measure(flat, to_measure(flat))


@pytest.mark.parametrize(("dtype", "expected"), [(np.uint8, None), (np.uint16, "dtype"), (np.float32, "dtype")])
def test_deeper_images_decide_the_range(dtype, expected):
    data = opened([torch.from_numpy(image) for image in pictures(3, dtype, 1 if dtype == np.float32 else 255)])
    decide_range(data)
    assert data.preprocessing.range == expected
    assert any("their values are kept" in note for note in data.notes) == (expected is not None)
    kept = opened([torch.from_numpy(image) for image in pictures(3)], range="uint8")
    decide_range(kept)
    assert kept.preprocessing.range is None
