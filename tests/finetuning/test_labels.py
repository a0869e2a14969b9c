"""Whole runs with labels that are uneven, several or uncertain: one number wherever it is read."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import zoo
from zoo.checkpoint.load import load
from zoo.data.open_data import open_data
from zoo.exporting.export import describe
from zoo.exporting.images import find_source
from zoo.exporting.program import network_of
from zoo.recipe.options import DataOptions
from zoo.reporting.facts import gather
from zoo.training.callbacks import Listener

NAMES = ("red", "green", "blue")


def pictures(folder: Path, rows: np.ndarray) -> None:
    """A picture a row, as bright in each channel as the row says, and the table of them."""
    generator, lines = np.random.default_rng(0), ["path,red,green,blue,split"]
    for number, row in enumerate(rows):
        noise = generator.integers(0, 120, (16, 16, 3)) + 100 * row
        Image.fromarray(noise.astype(np.uint8)).save(folder / f"{number}.png")
        cells = (f"{folder / str(number)}.png", *row, "validation" if number % 3 == 0 else "train")
        lines.append(",".join(map(str, cells)))
    (folder / "t.csv").write_text("\n".join(lines) + "\n")


def finetuned(folder: Path, *steps, **data) -> zoo.Run:
    recipe = {
        "precision": "float32",
        "model": "zoo/small_cnn",
        "data": {
            "source": "csv",
            "path": str(folder / "t.csv"),
            "label_column": list(NAMES),
            "image_size": 16,
            "workers": 0,
            "batch_size": 7,
            **data,
        },
        "steps": [{"swap_head": "auto"}, *steps],
    }
    return zoo.finetune(recipe, output=folder / "run", progress=Listener())


def rows_of(folder: Path) -> list[dict]:
    report = json.loads((folder / "report.json").read_text())["evaluation"]
    return report["parts"][report["part"]]["per_class"]


def test_labels_are_judged_alike_wherever_they_are_read(tmp_path):
    pictures(tmp_path, (np.random.default_rng(1).random((36, 3)) < [0.6, 0.3, 0.2]).astype(int))
    train = {"epochs": 1, "lr": 0.003, "class_weights": "balanced", "metrics": ["f1"]}
    run = finetuned(tmp_path, {"train": train}, {"thresholds": "tuned"}, "evaluate")
    rows, measured = rows_of(tmp_path / "run"), zoo.evaluate(run.checkpoint)
    assert measured["per_class"] == rows
    assert measured["metrics"] == run.metrics == run.report["stages"][-1]["metrics"]
    assert run.report["stages"][-2]["metrics"]["f1"] == run.metrics["f1"]
    page = gather(tmp_path / "run")["predicted"]["labels"]
    for key in ("support", "precision", "recall", "f1", "f1_interval", "threshold"):
        assert [row[key] for row in page] == [row[key] for row in rows], key
    assert run.report["evaluation"]["loss"]["BCEWithLogitsLoss"]["pos_weight"] == list(
        run.report["stages"][-3]["class_weights"].values()
    )
    assert zoo.verify(tmp_path / "run")["ok"]
    assembly = load(run.checkpoint)
    source = find_source(str(run.checkpoint), assembly, None, images=2, calibration=2)
    told = describe(network_of(assembly, preprocess=False, softmax=False), assembly, source)
    assert told["thresholds"] == [row["threshold"] for row in rows]
    compared = zoo.compare(run.checkpoint, run.checkpoint, metrics=["f1"])
    assert compared["metrics"]["f1"]["a"] == pytest.approx(run.metrics["f1"])


def test_soft_targets_train_and_are_measured(tmp_path):
    raw = np.random.default_rng(2).random((36, 3)) ** 3
    pictures(tmp_path, (raw / raw.sum(1, keepdims=True)).round(6))
    run = finetuned(
        tmp_path, {"train": {"epochs": 2, "lr": 0.003, "label_smoothing": 0.1, "class_weights": {"red": 2.0}}}
    )
    arguments = {"path": str(tmp_path / "t.csv"), "label_column": list(NAMES)}
    assert open_data(DataOptions(source="csv", arguments=arguments)).soft
    with open(tmp_path / "run" / "predictions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    outputs = torch.tensor([[float(row[f"output: {name}"]) for name in NAMES] for row in rows])
    targets = torch.tensor([[float(row[f"target: {name}"]) for name in NAMES] for row in rows])
    weight = torch.tensor([2.0, 1.0, 1.0], dtype=outputs.dtype)
    expected = F.cross_entropy(outputs, targets, weight, reduction="none").sum() / (targets @ weight).sum()
    assert run.metrics["loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert run.metrics["accuracy"] == pytest.approx((outputs.argmax(1) == targets.argmax(1)).double().mean().item())
    measured = zoo.evaluate(run.checkpoint)
    assert (measured["metrics"], measured["per_class"]) == (run.metrics, rows_of(tmp_path / "run"))
    page = gather(tmp_path / "run")["predicted"]["classes"]
    assert [row["f1"] for row in page] == [row["f1"] for row in measured["per_class"]]


def test_a_sample_drawn_twice_is_changed_anew(tmp_path):
    pictures(tmp_path, np.eye(3, dtype=int)[[0] * 20 + [1] * 2 + [2] * 2])
    arguments = {"path": str(tmp_path / "t.csv"), "label_column": list(NAMES), "split_column": ""}
    for augmentation in ("flip", "crop_flip"):
        options = DataOptions(
            source="csv", arguments=arguments, image_size=16, augmentation=augmentation, workers=0, batch_size=24
        )
        data = open_data(options)
        batches = [list(data.batches("train", sampler="balanced", rank=rank, world=2).epoch(1)) for rank in (0, 1)]
        whole = next(data.batches("train", sampler="balanced").epoch(1))
        assert all(torch.equal(whole.inputs[rank::2], own[0].inputs) for rank, own in enumerate(batches))
        seen: dict[int, list[torch.Tensor]] = {}
        for position, image in zip(whole.positions.tolist(), whole.inputs, strict=True):
            seen.setdefault(position, []).append(image)
        several = [images for images in seen.values() if len(images) > 3]
        assert several
        assert all(any(not torch.equal(images[0], other) for other in images) for images in several)
