"""What zoo's loop costs beside the leanest loop by hand with the same settings, in turn in one process.

    python benchmarks/training/overhead.py

Both train all of resnet18 at 128 px in bfloat16, channels-last, with fused Adam. The lean loop has its images decoded
in memory and measures nothing. Images a second are those of training epochs without validation; the first epoch, in
which zoo decodes, is left out of both.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
import yaml
from common import IMAGENET, LEARNING_RATE, Job, build, image_folders, write_images
from run import prepare
from zoo_recipe import recipe

import zoo
from zoo.training.callbacks import Listener


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work"))
    options = parser.parse_args()
    job = Job("resnet18", "full", 128, 3, str(write_images(options.work, 128, 480)))
    prepare(job)
    images, targets = decoded(job)
    lean(replace(job, epochs=1), images, targets)  # kernels are chosen and memory is taken once, outside the clock
    pairs = []
    for number in range(options.rounds):
        order = (by_zoo, lean) if number % 2 else (lean, by_zoo)
        rates = {each: each(job, images, targets) for each in order}
        pairs.append((rates[lean], rates[by_zoo]))
        print(f"lean {pairs[-1][0]:.1f} images/s, zoo {pairs[-1][1]:.1f}", flush=True)
    ratios = [lean_rate / zoo_rate for lean_rate, zoo_rate in pairs]
    print(f"zoo takes {statistics.median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f}) times the lean loop's time")


def decoded(job: Job) -> tuple[torch.Tensor, torch.Tensor]:
    train, _ = image_folders(job)
    inputs, targets = zip(*train, strict=True)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in IMAGENET)
    return ((torch.stack(inputs) * std + mean) * 255).round().byte(), torch.tensor(targets)


def lean(job: Job, images: torch.Tensor, targets: torch.Tensor) -> float:
    """Images a second over all epochs but the first."""
    torch.manual_seed(0)
    model = build(job).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE[job.task], fused=True)
    mean, std = (torch.tensor(value).view(3, 1, 1) * 255 for value in IMAGENET)
    seconds = []
    for _ in range(job.epochs):
        began = time.perf_counter()
        for chosen in torch.randperm(len(images)).split(job.batch_size):
            inputs = ((images[chosen].float() - mean) / std).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = torch.nn.functional.cross_entropy(model(inputs), targets[chosen])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        seconds.append(time.perf_counter() - began)
    return len(images) / statistics.median(seconds[1:] or seconds)


def by_zoo(job: Job, images: torch.Tensor, targets: torch.Tensor) -> float:
    settings = {"epochs": job.epochs, "lr": LEARNING_RATE[job.task], "optimizer": "Adam", "scheduler": "constant"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        steps = [{"train": settings | {"weight_decay": 0.0, "precision": "bfloat16"}}]
        path.write_text(yaml.safe_dump(recipe(job, steps), sort_keys=False))
        run = zoo.finetune(path, output=Path(folder) / "run", progress=Listener())
    return statistics.median(epoch["images_per_second"] for epoch in run.history[1:])


if __name__ == "__main__":
    main()
