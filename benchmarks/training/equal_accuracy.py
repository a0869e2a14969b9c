"""Whether zoo and a plain loop reach the same accuracy: five seeds of each, full fine-tunes, same data and settings.

    python benchmarks/training/equal_accuracy.py resnet18
    python benchmarks/training/equal_accuracy.py vit_tiny_patch16_224

Both begin with the same weights (some MNIST digits) and train on scikit-learn's digits at 96 px with Adam in float32;
accuracy is that of the last epoch on 360 others. The loop takes the samples in zoo's order of the same seed, so that
what is left of a difference is not chance but resizing, normalisation, decay, schedule, last batch or batch norm;
with `--own-order` it shuffles by itself. `zoo, its own mean and std` leaves normalisation to zoo, which takes the
architecture's where weights do not say.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from common import Job, accuracy, build, image_folders, write_images
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from torch.utils.data import DataLoader
from weights import pretrain
from zoo_recipe import recipe

import zoo
from zoo.data.batches import Order
from zoo.data.transforms import derived_seed
from zoo.training.callbacks import Listener

HELD_OUT, SIZE, LR = 360, 96, 3e-4
T_975 = {3: 4.303, 5: 2.776, 10: 2.262}  # Student's t of a mean of so many, 95 %


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=["resnet18", "vit_tiny_patch16_224"])
    parser.add_argument("--images", type=int, default=480)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--first", type=int, default=1280, help="MNIST digits that the first weights are trained on")
    parser.add_argument("--seeds", type=int, choices=list(T_975), default=5)
    parser.add_argument("--own-order", action="store_true", help="the loop shuffles by itself")
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work"))
    options = parser.parse_args()
    data = str(write_images(options.work, SIZE, options.images, 1, HELD_OUT))
    job = Job(options.model, "full", SIZE, options.epochs, data, options.batch_size)
    first_weights(job, options.first)
    ordered = functools.partial(loop, own_order=options.own_order)
    arms: dict[str, Train] = {"plain loop": ordered, "zoo": by_zoo}
    if options.model.startswith("vit"):
        arms["zoo, its own mean and std"] = functools.partial(by_zoo, mean=None, std=None)
    ends: dict[str, list[End]] = {name: [] for name in arms}
    for seed in range(options.seeds):
        for name, train in arms.items():
            started = time.perf_counter()
            ends[name].append(end := train(job, seed))
            seconds = time.perf_counter() - started
            print(f"seed {seed}, {name}: {end.accuracy:.4f}, loss {end.loss:.6f}, {seconds:.0f} s", flush=True)
    print(table(options.model, ends), flush=True)


class End(NamedTuple):
    """How a training ended: accuracy on the held-out images, and the last epoch's mean training loss."""

    accuracy: float
    loss: float


Train = Callable[[Job, int], End]


def first_weights(job: Job, images: int) -> None:
    """Put `job.weights` in place: a network trained on MNIST's digits at 64 px, with a fresh classifier."""
    if job.weights.exists():
        return
    torch.manual_seed(0)
    state = pretrain(job.model, images)
    if "pos_embed" in state:
        state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"], [job.size // 16] * 2)
    head = "fc" if "fc.weight" in state else "head"
    fresh = torch.nn.Linear(state[f"{head}.weight"].shape[1], 10)
    save_file(state | {f"{head}.{name}": value.detach() for name, value in fresh.named_parameters()}, job.weights)


def loop(job: Job, seed: int, *, own_order: bool = False) -> End:
    """The loop of the tutorials."""
    torch.manual_seed(seed)
    model = build(job)
    train, validation = image_folders(job)
    order = Order(len(train), job.batch_size, seed=derived_seed(seed, 0), shuffle=True, rank=0, world=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    for epoch in range(job.epochs):
        model.train()
        total = 0.0
        sampler = [[int(place) for place in batch] for batch in order.epoch(epoch)]
        own = DataLoader(train, job.batch_size, shuffle=True)
        for inputs, targets in own if own_order else DataLoader(train, batch_sampler=sampler):
            optimizer.zero_grad()
            value = torch.nn.functional.cross_entropy(model(inputs), targets)
            value.backward()
            optimizer.step()
            total += value.item() * len(targets)
    return End(accuracy(model, DataLoader(validation, job.batch_size)), total / len(train))


def by_zoo(job: Job, seed: int, **changes: Any) -> End:
    train = {"epochs": job.epochs, "lr": LR, "optimizer": "Adam", "scheduler": "constant", "weight_decay": 0.0}
    document = recipe(job, [{"train": train | {"precision": "float32"}}]) | {"seed": seed}
    document["data"] |= changes
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        last = zoo.finetune(path, output=Path(folder) / "run", progress=Listener()).history[-1]
    return End(last["validation_accuracy"], last["loss"])


def table(model: str, ends: dict[str, list[End]]) -> str:
    first = next(iter(ends.values()))
    lines = [
        "| network | trained by | accuracy, each seed | mean | accuracy - loop's, 95 % | loss - loop's, 95 % |",
        f"|{'---|' * 6}",
    ]
    for name, found in ends.items():
        pairs = list(zip(found, first, strict=True))
        gaps = ["", ""]
        if found is not first:
            gaps = [interval([getattr(a, what) - getattr(b, what) for a, b in pairs]) for what in End._fields]
        each = ", ".join(f"{end.accuracy:.3f}" for end in found)
        mean = statistics.mean(end.accuracy for end in found)
        lines.append(f"| {model} | {name} | {each} | {mean:.4f} | {' | '.join(gaps)} |")
    return "\n".join(lines)


def interval(differences: list[float]) -> str:
    half = T_975[len(differences)] * statistics.stdev(differences) / len(differences) ** 0.5
    return f"{statistics.mean(differences):+.4f} ± {half:.4f}"


if __name__ == "__main__":
    main()
