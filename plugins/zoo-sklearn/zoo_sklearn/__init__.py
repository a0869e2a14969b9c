"""scikit-learn's handwritten digits as a zoo dataset. Importing this imports neither scikit-learn nor torch."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.api import Data

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

VALIDATION_IMAGES = 360


def digits(seed: int = 0) -> Data:
    """1,797 real handwritten digits, 8x8, grey, in scikit-learn itself: 1,437 for training, 360 for validation.

    The split is stratified and drawn by `seed`. The images are scaled from scikit-learn's 0..16 to 0..255. From the
    UCI data set "Optical Recognition of Handwritten Digits" (its test part).
    """
    samples = _samples()
    order = _stratified([label for _, label in samples], seed)
    held_out, trained_on = order[:VALIDATION_IMAGES], order[VALIDATION_IMAGES:]
    return Data(
        [samples[position] for position in trained_on],
        [samples[position] for position in held_out],
        classes=tuple(str(digit) for digit in range(10)),
    )


@functools.cache
def _samples() -> list[tuple[Image, int]]:
    """Every image and its label, made once a process."""
    import numpy as np
    from PIL import Image

    table = _table()  # 64 pixels and the label a row
    pixels = np.rint(table[:, :64].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return [(Image.fromarray(image), int(label)) for image, label in zip(pixels, table[:, 64], strict=True)]


def _table() -> np.ndarray:
    """The file that `sklearn.datasets.load_digits` reads, without the second that importing scikit-learn takes."""
    import numpy as np

    package = find_spec("sklearn")
    folders = package.submodule_search_locations if package else None
    file = Path(folders[0]) / "datasets" / "data" / "digits.csv.gz" if folders else None
    if file and file.is_file():
        return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    return np.column_stack(load_digits(return_X_y=True))


def _stratified(of_samples: Sequence[int], seed: int) -> np.ndarray:
    """A random order of the samples, stratified: any first part of it has nearly the true share of each class."""
    import numpy as np

    labels = np.asarray(of_samples)
    order = np.random.default_rng(seed).permutation(len(labels))
    share = np.empty(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        share[members] = (np.arange(len(members)) + 0.5) / len(members)
    return order[np.argsort(share[order], kind="stable")]
