"""Splits 60 architectures of 60 timm families into backbone and rest, at the head and half way; prints Markdown.

    python benchmarks/trunk_split.py [NAME ...]

Every tensor is randomised first (fresh batch norms hide errors). A split counts only after both halves together gave
the model's output; "max difference" is that check again on other inputs, relative to the largest output.
"""

from __future__ import annotations

import sys
import warnings

import timm
import torch
from families import NAMES
from torch import Tensor, nn

from zoo.model.freezing import freeze
from zoo.training.trunk.split import UnsplittableError, split


def randomise(model: nn.Module) -> None:
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if not tensor.is_floating_point():
                continue
            if "running_var" in name:
                tensor.uniform_(0.5, 1.5)
            elif tensor.ndim <= 1:
                tensor.add_(torch.randn_like(tensor) * 0.1)


def frozen_names(model: nn.Module, where: str) -> list[str]:
    names = [name for name, _ in model.named_parameters()]
    if where == "half way":
        return names[: len(names) // 2]
    head = model.default_cfg["classifier"]
    prefixes = tuple(f"{part}." for part in ([head] if isinstance(head, str) else head))
    return [name for name in names if not name.startswith(prefixes)]


def verdict(name: str, where: str) -> str:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10)
    randomise(model)
    freeze(model, frozen_names(model, where))
    inputs = torch.randn(3, *model.default_cfg["input_size"])
    model.eval()
    try:
        parts = split(model, inputs)
    except UnsplittableError as error:
        return f"plain: {error} | |"
    other = torch.randn(2, *model.default_cfg["input_size"])
    with torch.no_grad():
        features = parts.trunk(other)
        error = difference(model(other), parts.rest(*features))
    shapes = ", ".join("x".join(map(str, feature.shape[1:])) for feature in features)
    return f"{parts.method} | {error:.0e} | {shapes}"


def difference(expected: Tensor, got: Tensor) -> float:
    return float((expected - got).abs().max() / expected.abs().max())


def main() -> None:
    warnings.filterwarnings("ignore")
    print("| architecture | frozen | method | max difference | features a sample |\n|---|---|---|---|---|")
    split_count = 0
    chosen = sys.argv[1:] or NAMES
    for name in chosen:
        for where in ("all but the head", "half way"):
            row = verdict(name, where)
            split_count += not row.startswith("plain")
            print(f"| {name} | {where} | {row} |", flush=True)
    print(f"\n{split_count} of {2 * len(chosen)} split.")


if __name__ == "__main__":
    main()
