"""Data for the tutorials' examples that come without any: rows of numbers, and two tasks on real handwritten digits.

Importing this imports neither torch nor scikit-learn.
"""

from __future__ import annotations

from typing import Any, Literal

from zoo.api import Data

NOISE = 0.01
TRAITS = {"even": "02468", "prime": "2357", "loop": "0689", "above_four": "56789"}


def rows(
    features: int = 4,
    outputs: int = 1,
    samples: int = 512,
    task: Literal["regression", "classification"] = "regression",
    seed: int = 0,
) -> Data:
    """Standard normal rows [features], each with a target that a random linear map gives.

    Regression: `outputs` values with a little noise. Classification: which of `outputs` values is the largest.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(samples, features, generator=generator)
    values = inputs @ (torch.randn(features, outputs, generator=generator) / features**0.5)
    if task == "classification":
        targets = values.argmax(1).tolist()
        classes = tuple(str(index) for index in range(outputs))
        return Data(list(zip(inputs, targets, strict=True)), classes=classes, inputs="features")
    values += NOISE * torch.randn(samples, outputs, generator=generator)
    return Data(list(zip(inputs, values, strict=True)), task="regression", inputs="features")


def digit_ink() -> Data:
    """scikit-learn's 1,797 digits, and how much ink each took: the mean of its pixels, 0 to 1 (regression)."""
    return Data([(image, float(pixels.mean() / 16)) for image, pixels, _ in _digits()], task="regression")


def digit_traits() -> Data:
    """scikit-learn's 1,797 digits, and which of four traits each number has: even, prime, drawn with a closed loop,
    above four (multi-label)."""
    samples = [(image, [float(str(label) in members) for members in TRAITS.values()]) for image, _, label in _digits()]
    return Data(samples, classes=tuple(TRAITS), task="multilabel")


def _digits() -> list[tuple[Any, Any, int]]:
    """Image, its pixels from 0 to 16 and its number."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    bunch = load_digits()
    scaled = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    return [
        (Image.fromarray(image), pixels, int(label))
        for image, pixels, label in zip(scaled, bunch.images, bunch.target, strict=True)
    ]
