"""`--seeds N`: one recipe with several seeds, a run for each, and how far their results lie apart.

What the seed decides (fresh parameters, order, augmentation, dropout) differs from run to run; which samples are held
out does not: it stays that of the first seed (`data.split_seed`), so that the spread is that of training, and features
that do not depend on the seed are found in the feature cache, computed once.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from zoo.errors import InputError
from zoo.finetuning.finetune import finetune
from zoo.finetuning.result import Run
from zoo.recipe import Recipe
from zoo.recipe.options import Precision
from zoo.training.callbacks import Listener
from zoo.training.folder import RunFolder
from zoo.training.live import display
from zoo.training.state import write_json

SUMMARY, KIND = "seeds.json", "zoo runs by seed"
CONFIDENCE = 0.95


@dataclass(frozen=True)
class SeedRuns:
    """Runs of one recipe with several seeds. `report` is the document of `--json`, and of `seeds.json` in `folder`."""

    folder: Path
    runs: tuple[Run, ...]
    report: dict[str, Any]

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """Of every metric `{"mean", "sd", "interval", "values"}`; the interval is the mean's, at 95 %."""
        metrics: dict[str, dict[str, Any]] = self.report["metrics"]
        return metrics

    def __str__(self) -> str:
        names = list(self.metrics)
        lines = ["  ".join(["seed", *names, "seconds"])]
        for run in self.report["runs"]:
            values = (_shown(run["metrics"].get(name), len(name)) for name in names)
            lines.append("  ".join([f"{run['seed']:>4}", *values, f"{run['seconds']:>7.1f}"]))
        for name, found in self.metrics.items():
            lines.append(f"{name}: {described(found)}")
        return "\n".join([*lines, f"runs: {self.folder}"])


def _shown(value: float | None, width: int) -> str:
    return f"{'undefined' if value is None else f'{value:.4f}':>{width}}"


def described(found: Mapping[str, Any]) -> str:
    """`mean 0.9012, sd 0.0054 over 5 seeds (95 %: 0.8945 to 0.9079)`."""
    if found["mean"] is None:
        return "undefined"
    count = sum(value is not None for value in found["values"])
    if found["interval"] is None:
        return f"mean {found['mean']:.4f} over {count} seed"
    low, high = found["interval"]
    return f"mean {found['mean']:.4f}, sd {found['sd']:.4f} over {count} seeds (95 %: {low:.4f} to {high:.4f})"


def spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean, standard deviation (n - 1) and Student's 95 % interval of the mean; None where there are too few values."""
    known = np.array([value for value in values if value is not None and math.isfinite(value)])
    mean = float(known.mean()) if len(known) else None
    if mean is None or len(known) < 2:
        return {"mean": mean, "sd": None, "interval": None, "values": list(values)}
    sd = float(known.std(ddof=1))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(known) - 1)) * sd / math.sqrt(len(known))
    return {"mean": mean, "sd": sd, "interval": [mean - half, mean + half], "values": list(values)}


def finetune_seeds(
    read: Callable[[Sequence[str]], Recipe],
    seeds: int,
    *,
    output: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str | None = None,
    precision: Precision | None = None,
    progress: Listener | None = None,
) -> SeedRuns:
    """Carry out a recipe with `seeds` seeds, from its own on: `zoo.finetune_seeds`, without its objects.

    `read` makes the recipe, with further `KEY=VALUE` overrides. The folder (`checkpoints/NAME`, or `output`) gets a
    run's folder `seed-N` for each, and `seeds.json`, after every run that is finished. With `resume`, finished runs are
    kept, an unfinished one goes on, and the others are begun.

    Raises what `finetune` does, and InputError where a file called `seeds.json` is somebody else's.
    """
    if seeds < 1:
        raise InputError(f"seeds has to be at least 1, not {seeds}")
    first = read(())
    folder = Path(output) if output is not None else Path("checkpoints") / first.name
    _check_summary(folder / SUMMARY)
    recipes = [(seed, read(_overrides(first, seed))) for seed in range(first.seed, first.seed + seeds)]
    main = os.environ.get("RANK", "0") == "0"  # of several processes the first one minds the files
    for seed, recipe in recipes if main else ():  # nothing is trained where a later folder would refuse its run
        RunFolder(_folder(folder, seed), recipe).check(resume=resume, overwrite=overwrite)
    listener, runs = (progress or display()) if main else Listener(), []
    for number, (seed, recipe) in enumerate(recipes, 1):
        listener.note(f"seed {seed} ({number} of {seeds})")
        options: dict[str, Any] = {"device": device, "precision": precision, "progress": listener}
        run = finetune(recipe, output=_folder(folder, seed), resume=resume, overwrite=overwrite, **options)
        runs.append(dataclasses.replace(run, assembly=None))  # its model is in the checkpoint: memory holds one
        report = _report(first, folder, [(seed, run) for (seed, _), run in zip(recipes, runs, strict=False)])
        if main:
            write_json(folder / SUMMARY, report)
    return SeedRuns(folder, tuple(runs), report)


def _folder(folder: Path, seed: int) -> Path:
    return folder / f"seed-{seed}"


def _overrides(recipe: Recipe, seed: int) -> list[str]:
    split = [] if recipe.data is None or recipe.data.split_seed is not None else [f"data.split_seed={recipe.seed}"]
    return [f"seed={seed}", *split]


def _check_summary(path: Path) -> None:
    if not os.path.lexists(path):
        return
    try:
        known = not path.is_symlink() and json.loads(path.read_text(encoding="utf-8")).get("kind") == KIND
    except (OSError, ValueError, AttributeError, RecursionError):
        known = False
    if not known:
        raise InputError(
            f"{path} was not written by zoo: runs by seed would overwrite it",
            suggestion="name another folder with --output, or move it away",
        )


def _report(recipe: Recipe, folder: Path, runs: Sequence[tuple[int, Run]]) -> dict[str, Any]:
    names = dict.fromkeys(name for _, run in runs for name in run.metrics)
    return {
        "kind": KIND,
        "name": recipe.name,
        "folder": str(folder),
        "metrics": {name: spread([run.metrics.get(name) for _, run in runs]) for name in names},
        "seconds": sum(run.report["seconds"] for _, run in runs),
        "runs": [
            {
                "seed": seed,
                "folder": str(run.folder),
                "checkpoint": str(run.checkpoint),
                "metrics": run.metrics,
                "seconds": run.report["seconds"],
            }
            for seed, run in runs
        ],
    }
