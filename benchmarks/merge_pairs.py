"""Pairs of networks fine-tuned from one base on scikit-learn's digits, and their average, as a Markdown table.

    python benchmarks/merge_pairs.py                 five pairs; some minutes on two cores
    python benchmarks/merge_pairs.py timm/test_vit   some

The base is trained on 200 digits; both members go on from it with all training digits, one at a rate of 1e-3 in
batches of 64, the other at 2e-3 in batches of 32 with smoothed labels. All are measured on the same digits held out, by
`zoo evaluate`. "holds" says that the average's accuracy is at least the better member's less 0.1 point (0.001).
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import zoo

NETWORKS = ("timm/test_resnet", "timm/test_efficientnet", "timm/test_convnext", "timm/test_byobnet", "timm/test_vit")
DATA = {"source": "sklearn/digits", "image_size": 32, "batch_size": 64, "validation_fraction": 0.3}
EPOCHS = 4


def recipe(network: str, steps: list[Any], *, weights: Path | None = None, **data: Any) -> dict[str, Any]:
    arguments = {"num_classes": 10} | ({"img_size": 32} if "vit" in network else {})
    model: dict[str, Any] = {"architecture": network, "arguments": arguments}
    if weights is not None:
        model["weights"] = str(weights)
    return {"model": model, "data": DATA | data, "steps": steps, "precision": "float32", "device": "cpu"}


def train(recipe: dict[str, Any], folder: Path) -> Path:
    return Path(zoo.finetune(recipe, output=folder).checkpoint)


def row(network: str, folder: Path) -> list[str]:
    """Base, both members, their average and the greedy one."""
    base = train(recipe(network, [{"train": {"epochs": 15, "lr": 2e-3}}], limit=200), folder / "base")
    torch.save(zoo.load(base).state_dict(), folder / "base.pth")
    members = []
    for lr, batch_size, smoothing in ((1e-3, 64, 0.0), (2e-3, 32, 0.1)):
        steps = [{"train": {"epochs": EPOCHS, "lr": lr, "label_smoothing": smoothing}}]
        started = recipe(network, steps, weights=folder / "base.pth", batch_size=batch_size)
        members.append(train(started, folder / str(batch_size)))
    held_out = folder / "data.yaml"
    held_out.write_text(_yaml(recipe(network, [{"evaluate": {}}])))
    accuracies = [zoo.evaluate(base, held_out, device="cpu")["metrics"]["accuracy"]]
    for method in ("average", "greedy"):
        made = zoo.merge(members, folder / f"{method}.safetensors", method=method, data=held_out, device="cpu")
        if method == "average":
            accuracies += [member["metrics"]["accuracy"] for member in made.members]
        accuracies.append(made.metrics["accuracy"])
    holds = accuracies[3] >= max(accuracies[1:3]) - 0.001
    return [network, *(f"{value:.4f}" for value in accuracies), "yes" if holds else "no"]


def _yaml(document: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(document)


def table(networks: tuple[str, ...]) -> Iterator[str]:
    yield "| network | base | first | second | average | greedy | holds |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | --- |"
    for network in networks:
        with tempfile.TemporaryDirectory() as folder:
            yield f"| {' | '.join(row(network, Path(folder)))} |"


def main() -> None:
    logging.disable(logging.INFO)
    for line in table(tuple(sys.argv[1:]) or NETWORKS):
        print(line, flush=True)


if __name__ == "__main__":
    main()
