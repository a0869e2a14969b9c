"""Datasets without a split: zoo holds out a seeded part (`validation_fraction` in a recipe)."""

from __future__ import annotations

from typing import Any

from zoo.api import Data
from zoo_torchvision.datasets.opening import class_names, digits, open_split


def _whole(name: str, root: str, download: bool, **own: Any) -> Data:
    images = open_split(name, root, download=download, **own)
    return Data(images, classes=class_names(images))


def eurosat(root: str = "data", download: bool = False) -> Data:
    """EuroSAT: 27,000 Sentinel-2 images of 10 land uses, 64x64."""
    return _whole("EuroSAT", root, download)


def caltech101(root: str = "data", download: bool = False) -> Data:
    """Caltech 101: 8,677 photographs of 101 kinds of objects."""
    return _whole("Caltech101", root, download, target_type="category")


def caltech256(root: str = "data", download: bool = False) -> Data:
    """Caltech 256: 30,607 photographs of 257 kinds of objects."""
    return _whole("Caltech256", root, download)


def sun397(root: str = "data", download: bool = False) -> Data:
    """SUN397: 108,754 photographs of 397 scenes."""
    return _whole("SUN397", root, download)


def semeion(root: str = "data", download: bool = False) -> Data:
    """Semeion: 1,593 handwritten digits, 16x16, black and white."""
    return Data(open_split("SEMEION", root, download=download), classes=digits())


def fake_data(size: int = 1000, num_classes: int = 10, image_size: int = 224) -> Data:
    """Noise with random labels, for trying a recipe out: nothing can be learnt from it but by heart."""
    from torchvision.datasets import FakeData

    images = FakeData(size, image_size=(3, image_size, image_size), num_classes=num_classes)
    return Data(images, classes=digits(num_classes))
