"""Datasets that torchvision splits by `train=True` and `train=False`: the MNIST family, CIFAR, USPS.

The second is the test part; zoo holds the validation part out of the first (`validation_fraction` in a recipe).
"""

from __future__ import annotations

from typing import Any, Literal

from zoo.api import Data
from zoo_torchvision.datasets.opening import as_data, digits, open_split


def _by_flag(name: str, root: str, download: bool, classes: tuple[str, ...] | None = None, **own: Any) -> Data:
    train = open_split(name, root, download=download, train=True, **own)
    test = open_split(name, root, download=download, train=False, **own)
    return as_data(train, test=test, classes=classes)


def mnist(root: str = "data", download: bool = False) -> Data:
    """MNIST: 60,000 + 10,000 handwritten digits, 28x28, grey, for training and for testing."""
    return _by_flag("MNIST", root, download)


def fashion_mnist(root: str = "data", download: bool = False) -> Data:
    """Fashion-MNIST: 60,000 + 10,000 pieces of clothing in 10 classes, 28x28, grey."""
    return _by_flag("FashionMNIST", root, download)


def kmnist(root: str = "data", download: bool = False) -> Data:
    """Kuzushiji-MNIST: 60,000 + 10,000 cursive Japanese characters in 10 classes, 28x28, grey."""
    return _by_flag("KMNIST", root, download)


def emnist(
    root: str = "data",
    download: bool = False,
    split: Literal["byclass", "bymerge", "balanced", "letters", "digits", "mnist"] = "balanced",
) -> Data:
    """EMNIST: handwritten letters and digits, 28x28, grey; `split` is the way its classes are drawn."""
    return _by_flag("EMNIST", root, download, split=split)


def qmnist(root: str = "data", download: bool = False) -> Data:
    """QMNIST: MNIST rebuilt, 60,000 + 60,000 digits, 28x28, grey."""
    return _by_flag("QMNIST", root, download)


def usps(root: str = "data", download: bool = False) -> Data:
    """USPS: 7,291 + 2,007 digits of postal codes, 16x16, grey."""
    return _by_flag("USPS", root, download, classes=digits())


def cifar10(root: str = "data", download: bool = False) -> Data:
    """CIFAR-10: 50,000 + 10,000 photographs in 10 classes, 32x32, colour."""
    return _by_flag("CIFAR10", root, download)


def cifar100(root: str = "data", download: bool = False) -> Data:
    """CIFAR-100: 50,000 + 10,000 photographs in 100 classes, 32x32, colour."""
    return _by_flag("CIFAR100", root, download)
