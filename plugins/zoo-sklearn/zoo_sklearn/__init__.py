"""scikit-learn's handwritten digits as a zoo dataset. Importing this imports neither scikit-learn nor torch."""

from __future__ import annotations

from zoo.api import Data

VALIDATION_IMAGES = 360


def digits(seed: int = 0) -> Data:
    """1,797 real handwritten digits, 8x8, grey, in scikit-learn itself: 1,437 for training, 360 for validation.

    The split is stratified and drawn by `seed`. The images are scaled from scikit-learn's 0..16 to 0..255. From the
    UCI data set "Optical Recognition of Handwritten Digits" (its test part).
    """
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # [n, 8, 8]
    samples = [(Image.fromarray(image), int(label)) for image, label in zip(pixels, bunch.target, strict=True)]
    train, validation = train_test_split(
        samples, test_size=VALIDATION_IMAGES, stratify=bunch.target, random_state=seed, shuffle=True
    )
    return Data(train, validation, classes=tuple(str(name) for name in bunch.target_names))
