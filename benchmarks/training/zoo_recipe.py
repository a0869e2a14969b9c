"""Contestant (e): zoo, by a recipe and nothing else."""

import os
import sys
import tempfile
from pathlib import Path

import yaml
from common import LEARNING_RATE, TRAINED, Job, job_from_arguments, model_arguments, normalisation


def main() -> None:
    job = job_from_arguments()
    freeze = {
        "probe": [{"freeze": "all_but_head"}],
        "partial": [{"freeze": {"policy": "below", "module": TRAINED[job.model][0].rstrip(".")}}],
        "full": [],
    }[job.task]
    train = {"epochs": job.epochs, "lr": LEARNING_RATE[job.task], "optimizer": "Adam", "scheduler": "constant"}
    run(job, [*freeze, {"train": train | {"weight_decay": 0.0}}])


def recipe(job: Job, steps: list) -> dict:
    mean, std = normalisation(job)
    return {
        "name": "benchmark",
        "seed": 0,
        "model": {
            "architecture": f"timm/{job.model}",
            "arguments": {"num_classes": 10, **model_arguments(job)},
            "weights": str(job.weights.resolve()),
        },
        "data": {
            "source": "image_folder",
            "path": str(Path(job.data).resolve()),
            "image_size": job.size,
            "batch_size": job.batch_size,
            "interpolation": "bilinear",
            "mean": list(mean),
            "std": list(std),
        },
        "steps": steps,
    }


def run(job: Job, steps: list) -> None:
    """Become `zoo finetune` of a recipe of these steps, as a user would call it; its JSON is the result."""
    folder = Path(tempfile.mkdtemp(dir=job.data))
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe(job, steps), sort_keys=False))
    command = [sys.executable, "-m", "zoo", "finetune", str(path), "--output", str(folder / "run"), "--json"]
    os.execv(sys.executable, command)


if __name__ == "__main__":
    main()
