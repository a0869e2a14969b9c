"""What gradient checkpointing saves and costs: bytes kept for the backward pass of an image, and seconds of a step.

    python benchmarks/gradient_checkpointing.py [ARCHITECTURE ...]

The networks are timm's, at 224 px, in float32 on the CPU, four images a step; the seconds are the fastest of three.
"""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext

import timm
import torch

from zoo.model.gradient_checkpointing import checkpointed
from zoo.training.batch_size import kept_for_backward

IMAGES, ROUNDS = 4, 3
NETWORKS = ("resnet50", "convnext_tiny", "vit_small_patch16_224")


def main(names: list[str]) -> None:
    print("| network | kept an image | with checkpointing | seconds a step | with checkpointing |")
    print("| --- | --- | --- | --- | --- |")
    images = torch.randn(IMAGES, 3, 224, 224)
    for name in names:
        model = timm.create_model(name).train()
        cells = [measured(model, images, saving) for saving in (False, True)]
        kept = [f"{bytes_ / IMAGES / 1e6:.0f} MB" for bytes_, _ in cells]
        print(f"| {name} | {kept[0]} | {kept[1]} | {cells[0][1]:.2f} | {cells[1][1]:.2f} |", flush=True)


def measured(model: torch.nn.Module, images: torch.Tensor, saving: bool) -> tuple[int, float]:
    def step() -> None:
        model(images).square().mean().backward()

    with checkpointed(model) if saving else nullcontext():
        kept, seconds = kept_for_backward(model, step), []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - began)
    return kept, min(seconds)


if __name__ == "__main__":
    main(sys.argv[1:] or list(NETWORKS))
