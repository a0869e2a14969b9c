"""Images and tables on the disk for the recipes that read a folder or a CSV file: of scikit-learn's digits, in seconds.

python recipes/make_data.py FOLDER

leaves in FOLDER, which is new or empty (the recipes say `data`):

    digits/0/0001.png …         1,797 grey images of ten classes, 64 pixels a side: own_folder.yaml
    rare/train/0/0001.png …     a training part in which 5 to 9 are rare; in val/ they are not: imbalanced.yaml
    few/train/0/0001.png …      ten training images of each class, and 300 to validate on: small_data.yaml
    strips/strips.csv           1,200 images of up to three digits side by side, and which ones: multilabel.yaml
    angles/angles.csv           1,200 images of a digit turned by some angle, and the angle in degrees: regression.yaml

The same bytes each time.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

SIDE = 64


def digits() -> tuple[list[Image.Image], np.ndarray]:
    """The 1,797 digits, white on black, and their classes [1797]."""
    found = load_digits()
    pixels = (found.images * 15.9375).astype(np.uint8)
    return [Image.fromarray(each).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for each in pixels], found.target


def folder_of_classes(place: Path, images: list[Image.Image], classes: np.ndarray, chosen: np.ndarray) -> None:
    for index in chosen:
        file = place / str(classes[index]) / f"{index:04}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        images[index].save(file)


def two_parts(place: Path, images: list[Image.Image], classes: np.ndarray, counts: list[int], held_out: int) -> None:
    """Of class c the first `held_out` images go into val/, the next `counts[c]` into train/."""
    for digit, count in enumerate(counts):
        of_class = np.flatnonzero(classes == digit)
        folder_of_classes(place / "val", images, classes, of_class[:held_out])
        folder_of_classes(place / "train", images, classes, of_class[held_out : held_out + count])


def table(file: Path, columns: tuple[str, str], rows: list[tuple[Image.Image, object]]) -> None:
    """Images beside a CSV file that lists them."""
    file.parent.mkdir(parents=True)
    with file.open("w", newline="", encoding="utf-8") as opened:
        written = csv.writer(opened)
        written.writerow(columns)
        for index, (image, label) in enumerate(rows):
            image.save(file.parent / f"{index:04}.png")
            written.writerow((f"{index:04}.png", label))


def strip(images: list[Image.Image], classes: np.ndarray, random: np.random.Generator) -> tuple[Image.Image, str]:
    """Up to three digits in a strip, 32 x 96, and which ones, as `3|7` (an empty cell: none)."""
    picture, names, side = Image.new("L", (96, 32)), set(), 32
    for place in np.flatnonzero(random.random(3) < 0.6).tolist():
        index = int(random.integers(len(images)))
        picture.paste(images[index].resize((side, side)), (side * place, 0))
        names.add(str(classes[index]))
    return picture, "|".join(sorted(names))


def turned(image: Image.Image, random: np.random.Generator) -> tuple[Image.Image, float]:
    angle = round(float(random.uniform(-45, 45)), 1)
    return image.rotate(angle, Image.Resampling.BILINEAR), angle


def main(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        sys.exit(f"{folder} is there already, and nothing is overwritten: name a new folder")
    images, classes = digits()
    random = np.random.default_rng(0)
    folder_of_classes(folder / "digits", images, classes, np.arange(len(images)))
    two_parts(folder / "rare", images, classes, [120] * 5 + [15] * 5, held_out=40)
    two_parts(folder / "few", images, classes, [10] * 10, held_out=30)
    strips = [strip(images, classes, random) for _ in range(1200)]
    table(folder / "strips/strips.csv", ("path", "digits"), strips)
    sevens = [images[index] for index in np.flatnonzero(classes == 7)]
    angles = [turned(sevens[int(random.integers(len(sevens)))], random) for _ in range(1200)]
    table(folder / "angles/angles.csv", ("path", "degrees"), angles)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
