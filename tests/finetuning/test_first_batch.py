"""`first_batch.jpg`: what the network is given, as a person sees it."""

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.contracts import Data, Preprocessing
from zoo.data.open_data import open_data
from zoo.finetuning.first_batch import write_first_batch
from zoo.given import given, name_of
from zoo.recipe.options import DataOptions

NAME = name_of(Data([], None))


def opened(images, **options):
    labelled = [(image, place % 2) for place, image in enumerate(images)]
    with given({"datasets": {NAME: lambda: Data(labelled, labelled)}}):
        return open_data(DataOptions(source=NAME, batch_size=4, **options), Preprocessing(size=(16, 16)))


@pytest.fixture
def images():
    """Of one colour each, which neither cropping nor flipping changes."""
    return [torch.full((3, 20, 20), 10 * place, dtype=torch.uint8) for place in range(12)]


@pytest.mark.parametrize("augmentation", ["none", "crop_flip"])
def test_it_shows_the_first_images_that_are_trained_on(images, augmentation, tmp_path):
    data = opened(images, augmentation=augmentation)
    before = torch.get_rng_state()
    assert write_first_batch(tmp_path, data, batch_size=None, seed=None)
    assert torch.equal(torch.get_rng_state(), before)
    order = data.batches("train").order.epoch(0)[0]
    shown = np.asarray(Image.open(tmp_path / "first_batch.jpg").convert("L"))
    assert shown.shape == (35, 35)  # two by two, a white line between
    tiles = [shown[9 + 17 * row, 9 + 17 * column] for row in range(2) for column in range(2)]
    assert np.allclose(tiles, [10 * place for place in order], atol=4)


def test_features_are_no_picture(tmp_path):
    labelled = [(torch.rand(5), place % 2) for place in range(4)]
    with given({"datasets": {NAME: lambda: Data(labelled, labelled, inputs="features")}}):
        data = open_data(DataOptions(source=NAME, batch_size=2))
    assert not write_first_batch(tmp_path, data, batch_size=None, seed=None)
    assert not list(tmp_path.iterdir())
