"""What class weights, even draws and focal loss do to rare classes: the table of docs/labels.md.

.venv/bin/python benchmarks/imbalanced_digits.py [SEEDS]

scikit-learn's digits, 0 to 4 with 120 training images each, 5 to 9 with 6; measured on 40 others of each. A small
network from random parameters, 20 epochs, the mean and spread over the seeds.
"""

import statistics
import sys
import tempfile

import numpy as np
import torch
from sklearn.datasets import load_digits

import zoo
from zoo.training.callbacks import Listener

FREQUENT, RARE, HELD_OUT = 120, 6, 40
WAYS = {
    "nothing": {},
    "`class_weights: balanced`": {"class_weights": "balanced"},
    "`sampler: balanced`": {"sampler": "balanced"},
    "`loss: focal`": {"loss": "focal"},
    "`loss: focal`, `class_weights: balanced`": {"loss": "focal", "class_weights": "balanced"},
}


def imbalanced() -> zoo.Data:
    digits = load_digits()
    images = (
        torch.from_numpy((digits.images * 15).astype(np.uint8))[:, None].repeat_interleave(2, 2).repeat_interleave(2, 3)
    )
    train, held_out = [], []
    for digit in range(10):
        places = np.flatnonzero(digits.target == digit)
        held_out += places[:HELD_OUT].tolist()
        train += places[HELD_OUT:][: FREQUENT if digit < 5 else RARE].tolist()
    samples = [
        [(images[place].expand(3, 16, 16), int(digits.target[place])) for place in part] for part in (train, held_out)
    ]
    return zoo.Data(*samples, classes=[str(digit) for digit in range(10)])


def measured(data: zoo.Data, options: dict, seed: int) -> list[float]:
    """Accuracy, recall of the frequent and of the rare classes, in percent."""
    recipe = {
        "seed": seed,
        "precision": "float32",
        "model": "zoo/small_cnn",
        "data": {"source": "imbalanced", "image_size": 16, "batch_size": 64},
        "steps": [
            {"swap_head": "auto"},
            {"train": {"epochs": 20, "lr": 5e-3, "metrics": ["balanced_accuracy"], **options}},
        ],
    }
    with tempfile.TemporaryDirectory() as folder:
        run = zoo.finetune(recipe, data=data, output=folder, overwrite=True, progress=Listener())
        rows = run.report["evaluation"]["parts"]["validation"]["per_class"]
    recalls = [100 * row["recall"] for row in rows]
    return [100 * run.metrics["balanced_accuracy"], statistics.mean(recalls[:5]), statistics.mean(recalls[5:])]


def main() -> None:
    data, seeds = imbalanced(), range(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
    print("| with | balanced accuracy | recall of the frequent five | of the rare five |\n| --- | --- | --- | --- |")
    for name, options in WAYS.items():
        found = np.array([measured(data, options, seed) for seed in seeds])
        cells = [f"{mean:.1f} ± {spread:.1f}" for mean, spread in zip(found.mean(0), found.std(0, ddof=1), strict=True)]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
