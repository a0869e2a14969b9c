"""A small network with random values everywhere, and images of several sizes."""

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo.contracts import Preprocessing

CLASSES = ("ant", "bee", "cat")
PREPROCESSING = Preprocessing(size=(48, 40), interpolation="bicubic", crop_fraction=0.9)


@pytest.fixture
def network(randomise):
    torch.manual_seed(0)
    model = zoo.build("timm/test_resnet", num_classes=3).eval()
    randomise(model)
    return model


@pytest.fixture
def checkpoint(network, tmp_path):
    path = tmp_path / "model.safetensors"
    zoo.save(network, path, classes=CLASSES, preprocessing=PREPROCESSING)
    return path


@pytest.fixture
def photos(tmp_path):
    """Twelve images of three sizes in a folder of class folders."""
    random = np.random.default_rng(0)
    for place in range(12):
        folder = tmp_path / "photos" / CLASSES[place % 3]
        folder.mkdir(parents=True, exist_ok=True)
        side = ((60, 50, 3), (30, 90, 3), (40, 40, 3))[place % 3]
        Image.fromarray(random.integers(0, 256, side, dtype=np.uint8)).save(folder / f"{place:02}.png")
    return tmp_path / "photos"
