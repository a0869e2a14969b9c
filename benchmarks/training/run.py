"""Times all contestants on the same job, in turn and repeated; prints a Markdown table of medians and paired ratios.

    python benchmarks/training/run.py --model resnet18 --task probe --size 96 --epochs 10 --rounds 3

A round runs every contestant once, so that a machine whose speed drifts slows them all; ratios are taken round by
round against the tutorial loop as written. Wall seconds are of the whole process, imports included; loop seconds begin
with the first batch. Peak memory is that of the largest single process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

from common import Job, arguments, write_images, write_weights

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
}


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
    output = process.stdout.read()  # type: ignore[union-attr]
    _, status, usage = os.wait4(process.pid, 0)
    reader.join()
    wall = time.perf_counter() - started
    if status:
        raise SystemExit(f"{script} failed:\n{errors[0][-2000:]}")
    result = json.loads(output.strip().splitlines()[-1])
    speed = result["images"] / result["loop_seconds"]
    return Run(wall, result["loop_seconds"], result["accuracy"], speed, usage.ru_maxrss / 1024)


def measure(job: Job, names: list[str], rounds: int) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names:
            script, best = CONTESTANTS[name]
            runs[name].append(run(script, replace(job, best=best), cold=True))
            print(f"round {number + 1}: {name}: {runs[name][-1]}", file=sys.stderr, flush=True)
    return runs


def spread(values: list[float], digits: int = 1) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def table(job: Job, runs: dict[str, list[Run]]) -> str:
    first = next(iter(runs.values()))
    lines = [
        f"### {job.task}: {job.model}, {job.size} px, {job.epochs} epochs, batch {job.batch_size}",
        "",
        "| contestant | whole process s | loop s | images/s | accuracy | peak MB | loop ratio | whole ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, ones in runs.items():
        cells = [
            spread([one.wall for one in ones]),
            spread([one.loop for one in ones]),
            f"{statistics.median(one.images_per_second for one in ones):.0f}",
            f"{statistics.median(one.accuracy for one in ones):.3f}",
            f"{max(one.megabytes for one in ones):.0f}",
            spread([base.loop / one.loop for base, one in zip(first, ones, strict=True)]),
            spread([base.wall / one.wall for base, one in zip(first, ones, strict=True)]),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append")
    parser.add_argument("--task", action="append", choices=["probe", "partial", "full"])
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--copies", type=int, default=1, help="train on so many copies of the images")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--only", help="contestants whose name holds this text, beside the tutorial loop")
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work"))
    options = parser.parse_args()
    data = write_images(options.work, options.size, options.copies)
    names = [name for name in CONTESTANTS if not options.only or name == "tutorial loop" or options.only in name]
    for model in options.model or ["resnet18"]:
        for task in options.task or ["probe"]:
            job = Job(model, task, options.size, options.epochs, str(data), options.batch_size)
            write_weights(job)
            chosen = [name for name in names if task == "probe" or name != "tutorial loop, frozen part in eval"]
            print(table(job, measure(job, chosen, options.rounds)), flush=True)


if __name__ == "__main__":
    main()
