"""A run's folder as files alone: no network is trained for it."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from zoo.file_name import RUN_MARK

BAD = "<script>alert(1)</script>"


def predictions(path, names, samples, *, part="validation", seed=0):
    """A predictions.csv with the given class names; about nine of ten are right."""
    generator = np.random.default_rng(seed)
    true = generator.integers(0, len(names), samples)
    guess = np.where(generator.random(samples) < 0.9, true, generator.integers(0, len(names), samples))
    probability = generator.uniform(0.4, 1.0, samples)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "part", "class", "predicted", "probability", "margin", "loss"])
        for place in range(samples):
            row = [f"{place}.png", part, names[true[place]], names[guess[place]], probability[place], 0.1, 0.2]
            writer.writerow(row)
    return true, guess, probability


def epoch(number, loss):
    return {
        "epoch": number, "steps": 3 * number, "lr": 0.01, "lr_by_group": [0.005, 0.01], "loss": loss,
        "validation": {"loss": loss * 1.1, "accuracy": 1 - loss / 3}, "images_per_second": 100.0,
        "seconds": float(number), "peak_memory": 2**30,
    }  # fmt: skip


def report(folder, **changes):
    train = {
        "step": 3, "action": "train", "epochs": [epoch(1, 2.0), epoch(2, 1.0)], "kept_epoch": 2, "best": None,
        "trainable": 970, "frozen": 372_688, "samples": 96, "precision": "float32", "setting": "", "seconds": 2.0,
        "feature_cache": {}, "measured_with": "", "metrics": {"loss": 1.1, "accuracy": 0.66},
        "freeze_proof": {"tensors": 138, "moved": [], "digest": "ab" * 32, "hashes": {}},
        "groups": [{"tensors": 1, "parameters": 960, "weight_decay": 0.01, "first": "fc.weight", "last": "fc.weight"}],
    }  # fmt: skip
    measured = {"metrics": {"loss": 1.1, "accuracy": 0.9}, "intervals": {"loss": [1.0, 1.2], "accuracy": None}}
    measured |= {"samples": 60, "absent": []}
    parts = {"validation": measured}
    document = {
        "name": "small", "recipe": {"path": "small.yaml", "written": f"name: small  # {BAD}\n"},
        "checkpoint": str(folder / "model.safetensors"), "metrics": measured["metrics"],
        "evaluation": {"part": "validation", "loss": "auto", "parts": parts,
                       "chose": ["step 3: keep: best"], "seconds": 0.1},
        "seconds": 5.0, "stages": [{"step": 2, "action": "freeze", "seconds": 0.1}, train],
        "architecture": "timm/test_resnet",
        "weights": {"weights": "mine", "coverage": 0.9, "missing": ["fc.weight", "fc.bias"], "left": ["head.weight"]},
        "data": {"source": "mine", "task": "classification", "outputs": 3, "train": 96, "validation": 60},
        "device": "cpu", "environment": {"python": "3.13", "device": "cpu x", "packages": {"torch": "2.14"}},
        "ladder": [], "interrupted": False, "failed": None,
    }  # fmt: skip
    return document | changes


@pytest.fixture
def run(tmp_path):
    """`run()` writes the folder of a finished run without a checkpoint; keywords change its report."""

    def written(names=("sun", "sea", BAD), samples=60, **changes):
        folder = tmp_path / "small"
        folder.mkdir(exist_ok=True)
        (folder / RUN_MARK).write_text(json.dumps({"format": 1, "recipe": "/small.yaml", "files": ["report.html"]}))
        (folder / "report.json").write_text(json.dumps(report(folder, **changes)))
        (folder / "recipe.yaml").write_text(f"name: small  # {BAD} pinned\n")
        status = {"state": "done", "why": None, "name": "small", "heartbeat": "2026-01-01T00:00:00+00:00"}
        (folder / "status.json").write_text(json.dumps(status))
        predictions(folder / "predictions.csv", names, samples)
        return folder

    return written
