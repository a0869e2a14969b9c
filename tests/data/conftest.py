"""Folders and tables of small real images (scikit-learn's digits), written in many file formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images [n, 8, 8] uint8 and labels [n]."""
    bunch = load_digits()
    return np.rint(bunch.images * (255 / 16)).astype(np.uint8), bunch.target


@pytest.fixture
def folder(tmp_path: Path, digits) -> Path:
    """12 images of each of three classes, PNG and JPEG mixed, 16x16, grey and colour mixed."""
    images, labels = digits
    for name, digit in (("one", 1), ("two", 2), ("zero", 0)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number, image in enumerate(images[labels == digit][:12]):
            picture = Image.fromarray(image).resize((16, 16))
            picture = picture.convert("RGB") if number % 3 == 0 else picture
            picture.save(tmp_path / "set" / name / f"{number:02}.{'png' if number % 2 else 'jpg'}")
    return tmp_path / "set"
