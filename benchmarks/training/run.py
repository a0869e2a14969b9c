"""Times all contestants on the same jobs, in turn and repeated; prints Markdown tables of medians and paired ratios.

    python benchmarks/training/run.py                                                  the jobs of docs/performance.md
    python benchmarks/training/run.py --model resnet18 --task probe --size 96 --epochs 10

A round runs every contestant once, so that a machine whose speed drifts slows them all; ratios are taken round by
round against the tutorial loop as written. Contestants that `--once` names run in the first round only. Wall seconds
are of the entire process, imports included; loop seconds begin with the first batch, and zoo's include features and
choosing a setting. Peak memory is that of the process and its children.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

from common import Job, arguments, write_images
from memory import Peak

HERE = Path(__file__).parent
CONTESTANTS = {
    "tutorial loop": ("tutorial.py", False),
    "tutorial loop, frozen part in eval": ("tutorial.py", True),
    "HF Trainer": ("trainer.py", False),
    "HF Trainer, best settings": ("trainer.py", True),
    "Lightning": ("lightning_backbone.py", False),
    "Lightning, best settings": ("lightning_backbone.py", True),
    "timm blocks": ("timm_blocks.py", False),
    "timm blocks, best settings": ("timm_blocks.py", True),
    "zoo": ("zoo_recipe.py", True),
    "zoo, probe step": ("zoo_probe.py", True),
}


JOBS = [  # model, task, pixels, epochs, training images
    ("resnet18", "probe", 96, 10, 1437),
    ("tf_efficientnet_lite0", "probe", 96, 10, 1437),
    ("resnet18", "partial", 224, 10, 480),
    ("resnet18", "full", 224, 2, 480),
    ("resnet50", "full", 128, 2, 480),
    ("tf_efficientnet_lite0", "full", 128, 2, 480),
    ("vit_tiny_patch16_224", "full", 224, 2, 480),
    ("resnet50", "probe", 96, 10, 480),
    ("vit_tiny_patch16_224", "probe", 96, 10, 480),
    ("resnet50", "partial", 128, 5, 480),
    ("tf_efficientnet_lite0", "partial", 128, 5, 480),
    ("vit_tiny_patch16_224", "partial", 224, 5, 480),
]
ONCE = "in eval|Trainer$|Lightning$|blocks$"


@dataclass(frozen=True)
class Run:
    """What one run of a contestant took."""

    wall: float
    loop: float
    accuracy: float
    images_per_second: float
    megabytes: float


def run(script: str, job: Job, cold: bool) -> Run:
    """Run one contestant. With `cold`, zoo's caches of features and choices are empty, as in a first run."""
    environment = dict(os.environ)
    if cold:
        environment["ZOO_CACHE"] = str(Path(job.data) / f"cache-{time.time_ns()}")
    command = [sys.executable, str(HERE / script), *arguments(job)]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    errors: list[str] = []
    reader = threading.Thread(target=lambda: errors.append(process.stderr.read()))  # type: ignore[union-attr]
    reader.start()
    peak = Peak(process.pid)
    output = process.stdout.read()  # type: ignore[union-attr]
    status = process.wait()
    wall = time.perf_counter() - started
    reader.join()
    megabytes = peak.stop()
    if status:
        raise SystemExit(f"{script} failed:\n{errors[0][-2000:]}")
    result = from_zoo(json.loads(output)) if output.startswith("{\n") else json.loads(output.strip().splitlines()[-1])
    speed = result["images"] / result["loop_seconds"]
    return Run(wall, result["loop_seconds"], result["accuracy"], speed, megabytes)


def from_zoo(document: dict) -> dict:
    """What a contestant reports, of `zoo finetune --json`."""
    stage = document["stages"][-1]
    images = stage["samples"] * len(stage.get("epochs", [0]))
    return {"accuracy": document["metrics"]["accuracy"], "loop_seconds": stage["seconds"], "images": images}


def measure(job: Job, names: list[str], rounds: int, once: str) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names:
            if number and once and re.search(once, name):
                continue
            script, best = CONTESTANTS[name]
            runs[name].append(run(script, replace(job, best=best), cold=True))
            print(f"round {number + 1}: {name}: {runs[name][-1]}", file=sys.stderr, flush=True)
    return runs


def prepare(job: Job) -> None:
    """First weights, made in a process of its own."""
    subprocess.run([sys.executable, str(HERE / "weights.py"), *arguments(job)], check=True)


def makes_sense(name: str, task: str) -> bool:
    """A full fine-tune has no frozen part, and only a linear probe can be solved."""
    return not (task == "full" and "in eval" in name) and not (task != "probe" and "probe step" in name)


def spread(values: list[float], digits: int = 1) -> str:
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def table(job: Job, images: int, runs: dict[str, list[Run]]) -> str:
    """The first contestant's runs are what the ratios are taken of."""
    first = next(iter(runs.values()))
    lines = [
        f"### {job.task}: {job.model}, {job.size} px, {images} images, {job.epochs} epochs, batch {job.batch_size}",
        "",
        "| contestant | entire process s | loop s | images/s | accuracy | peak MB | loop ratio | process ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, ones in runs.items():
        cells = [
            spread([one.wall for one in ones]),
            spread([one.loop for one in ones]),
            f"{statistics.median(one.images_per_second for one in ones):.0f}",
            f"{statistics.median(one.accuracy for one in ones):.3f}",
            f"{max(one.megabytes for one in ones):.0f}",
            spread([base.loop / one.loop for base, one in zip(first, ones, strict=False)]),
            spread([base.wall / one.wall for base, one in zip(first, ones, strict=False)]),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--task", choices=["probe", "partial", "full"], default="probe")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--images", type=int, default=1437)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="contestants, beside the tutorial loop; a regular expression")
    parser.add_argument("--once", default=ONCE, help="contestants of the first round only; a regular expression")
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work"))
    options = parser.parse_args()
    one = (options.model, options.task, options.size, options.epochs, options.images)
    names = [name for name in CONTESTANTS if name == "tutorial loop" or re.search(options.only, name)]
    for model, task, size, epochs, images in [one] if options.model else JOBS:
        job = Job(model, task, size, epochs, str(write_images(options.work, size, images)))
        prepare(job)
        chosen = [name for name in names if makes_sense(name, task)]
        print(table(job, images, measure(job, chosen, options.rounds, options.once)), flush=True)


if __name__ == "__main__":
    main()
