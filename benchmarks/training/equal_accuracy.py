"""Whether zoo and a plain loop reach the same accuracy: five seeds of each, full fine-tunes, same data and settings.

    python benchmarks/training/equal_accuracy.py resnet18
    python benchmarks/training/equal_accuracy.py vit_tiny_patch16_224

Both begin with the same weights (2,560 MNIST digits) and train on 480 of scikit-learn's digits at 96 px with Adam in
float32; accuracy is that of the last epoch on 360 others. Before the seeds the loop trains once in zoo's order of the
samples: what is left of a difference then is not chance but resizing, normalisation, decay, schedule, last batch, batch
norm. `zoo, own mean and std` leaves normalisation to zoo, which takes the architecture's.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from common import Job, accuracy, build, image_folders, write_images
from torch.utils.data import DataLoader
from weights import pretrain
from zoo_recipe import recipe

import zoo
from zoo.data.batches import Order
from zoo.data.transforms import derived_seed
from zoo.training.callbacks import Listener

IMAGES, HELD_OUT, SIZE, FIRST_IMAGES, LR = 480, 360, 96, 2560, 3e-4
T_975 = {3: 4.303, 5: 2.776, 10: 2.262}  # Student's t of a mean of so many, 95 %


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=["resnet18", "vit_tiny_patch16_224"])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, choices=list(T_975), default=5)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work"))
    options = parser.parse_args()
    job = Job(options.model, "full", SIZE, options.epochs, str(write_images(options.work, SIZE, IMAGES, 1, HELD_OUT)))
    first_weights(job)
    paired(job)
    arms = {"plain loop": loop, "zoo": by_zoo}
    if options.model.startswith("vit"):
        arms["zoo, own mean and std"] = by_zoo_with_its_own_normalisation
    values: dict[str, list[float]] = {name: [] for name in arms}
    for seed in range(options.seeds):
        for name, train in arms.items():
            started = time.perf_counter()
            values[name].append(train(job, seed)[0])
            print(f"seed {seed}, {name}: {values[name][-1]:.4f} ({time.perf_counter() - started:.0f} s)", flush=True)
    print(table(options.model, values))


def first_weights(job: Job) -> None:
    from safetensors.torch import load_file, save_file
    from timm.layers import resample_abs_pos_embed

    if job.weights.exists():
        return
    torch.manual_seed(0)
    save_file(pretrain(job.model, FIRST_IMAGES), job.weights)
    state = load_file(job.weights)
    if "pos_embed" in state:
        state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"], [job.size // 16] * 2)
    head = "fc" if "fc.weight" in state else "head"
    torch.manual_seed(0)
    fresh = torch.nn.Linear(state[f"{head}.weight"].shape[1], 10)
    state |= {f"{head}.weight": fresh.weight.detach(), f"{head}.bias": fresh.bias.detach()}
    save_file(state, job.weights)


def paired(job: Job) -> None:
    """One epoch of both in the same order: their losses and the largest difference of a weight."""
    one = replace(job, epochs=1)
    (_, loss, weights), (_, other, others) = loop(one, 0, in_zoos_order(one, 0)), by_zoo(one, 0)
    difference = max(float((weights[name].double() - others[name].double()).abs().max()) for name in weights)
    print(f"one epoch in the same order: loss {loss:.6f} and {other:.6f}, weights within {difference:.1e}", flush=True)


def in_zoos_order(job: Job, seed: int) -> Iterator[list[int]]:
    order = Order(IMAGES, job.batch_size, seed=derived_seed(seed, 0), shuffle=True, rank=0, world=1)
    for epoch in range(job.epochs):
        yield from ([int(place) for place in batch] for batch in order.epoch(epoch))


def loop(job: Job, seed: int, order: Iterable[list[int]] = ()) -> tuple[float, float, dict[str, Any]]:
    """The loop of the tutorials: accuracy, the last epoch's loss, the weights. `order` is all batches of all epochs."""
    torch.manual_seed(seed)
    model = build(job)
    train, validation = image_folders(job)
    shuffled = DataLoader(train, job.batch_size, shuffle=True)
    batches = iter(DataLoader(train, batch_sampler=list(order))) if order else None
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    for _ in range(job.epochs):
        model.train()
        total = 0.0
        for inputs, targets in batches or shuffled:
            optimizer.zero_grad()
            value = torch.nn.functional.cross_entropy(model(inputs), targets)
            value.backward()
            optimizer.step()
            total += value.item() * len(targets)
    return accuracy(model, DataLoader(validation, job.batch_size)), total / IMAGES, model.state_dict()


def by_zoo(job: Job, seed: int, **changes: Any) -> tuple[float, float, dict[str, Any]]:
    train = {"epochs": job.epochs, "lr": LR, "optimizer": "Adam", "scheduler": "constant", "weight_decay": 0.0}
    document = recipe(job, [{"train": train | {"precision": "float32"}}]) | {"seed": seed}
    document["data"] |= changes
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        run = zoo.finetune(path, output=Path(folder) / "run", progress=Listener())
    last = run.history[-1]
    return last["validation_accuracy"], last["loss"], run.model.state_dict()


def by_zoo_with_its_own_normalisation(job: Job, seed: int) -> tuple[float, float, dict[str, Any]]:
    return by_zoo(job, seed, mean=None, std=None)


def table(model: str, values: dict[str, list[float]]) -> str:
    first = next(iter(values.values()))
    lines = [
        "| network | trained by | accuracy, each seed | mean | difference to the loop, 95 % |",
        "|---|---|---|---|---|",
    ]
    for name, found in values.items():
        gap = "" if found is first else interval([one - other for one, other in zip(found, first, strict=True)])
        each = ", ".join(f"{value:.3f}" for value in found)
        lines.append(f"| {model} | {name} | {each} | {statistics.mean(found):.4f} | {gap} |")
    return "\n".join(lines)


def interval(differences: list[float]) -> str:
    half = T_975[len(differences)] * statistics.stdev(differences) / len(differences) ** 0.5
    return f"{statistics.mean(differences):+.4f} ± {half:.4f}"


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
