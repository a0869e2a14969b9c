"""What a run will take, in time, memory and disk: `zoo check --estimate`, and what `--within` shares time out by."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from zoo.errors import InputError
from zoo.finetuning.finetune import finetune
from zoo.finetuning.trial import END, STATES, Timed, Trial, Within, folder_bytes, trial_cache
from zoo.isolation import to_undo
from zoo.recipe import Recipe
from zoo.recipe.options import Precision, seconds_of
from zoo.steps.train import Train
from zoo.training.callbacks import Listener, clocked
from zoo.training.devices import peak_memory, process_kept
from zoo.training.trunk.store import memory_budget


@dataclass(frozen=True)
class StepCost:
    """What a step takes: seconds in all, of them `once` (features, reading, choosing), and an epoch's."""

    step: int
    action: str
    seconds: float
    once: float
    epoch: float | None = None
    epochs: float | None = None

    def __str__(self) -> str:
        told = f"step {self.step} {self.action}: {clocked(self.seconds)}"
        if self.epoch is None or self.epochs is None:
            return told
        count = f"{self.epochs:g} epoch{'s' if self.epochs != 1 else ''}"
        return f"{told} ({count} of {clocked(self.epoch)}, {clocked(self.once)} before)"


@dataclass(frozen=True)
class Estimate:
    """What a run would take on `device`: `seconds` in all and of each step, bytes of memory at most, bytes of disk in
    the run's folder when it is done (`folder`) and beside that while it trains (`state`), and in zoo's cache
    (`features`). `tried` samples of `samples` were tried out for `trial` seconds."""

    seconds: float
    steps: tuple[StepCost, ...]
    rest: float
    end: float
    memory: int
    folder: int
    state: int
    features: int
    device: str
    tried: int
    samples: int
    trial: float

    def as_dict(self) -> dict[str, Any]:
        """The document of `zoo check --json`, under `estimate`."""
        return asdict(self)

    def __str__(self) -> str:
        where = "memory of the GPU" if self.device.startswith("cuda") else "memory"
        disk = f"disk {_size(self.folder)} when done"
        disk += f", {_size(self.state)} more while it trains" if self.state else ""
        disk += f", {_size(self.features)} of features in the cache" if self.features else ""
        lines = [f"estimate on {self.device} ({self.tried} of {self.samples} samples tried for {self.trial:.1f} s):"]
        lines += [f"  {step}" for step in self.steps if step.seconds >= 0.05 or step.epoch is not None]
        lines += [f"  the rest: {clocked(self.rest)} (model, data, checkpoint, measuring, report)"]
        return "\n".join([*lines, f"  time {clocked(self.seconds)}, {where} {_size(self.memory)}, {disk}"])


@process_kept()
def estimate(recipe: Recipe, *, device: str | None = None, precision: Precision | None = None) -> Estimate:
    """Try a checked recipe out on a few samples and work out what all of it takes.

    Weights and data have to be on this machine. Nothing stays but settings that were chosen by timing, which the run
    then finds. With `early_stopping` it is the most that a run takes. Raises InputError where it cannot be tried out,
    and what `finetune` raises.
    """
    if recipe.data is None:
        raise InputError("an estimate needs data, and the recipe has none")
    began, trial = time.monotonic(), Trial(_batch_size(recipe))
    quiet = [_quiet(step) if isinstance(step, Train) else step for step in recipe.steps]
    tried = replace(recipe, steps=tuple(quiet))
    with to_undo(), tempfile.TemporaryDirectory(prefix="zoo-estimate-", ignore_cleanup_errors=True) as scratch:
        folder, cache = Path(scratch) / "run", Path(scratch) / "cache"
        with trial_cache(cache):
            started = time.monotonic()
            run = finetune(tried, output=folder, device=device, precision=precision, progress=Listener(), trial=trial)
            took = time.monotonic() - started
        end = time.monotonic() - trial.ended
        written, features = folder_bytes(folder), _features(trial, run.report, cache / "features")
    steps, in_steps = _steps(recipe, trial, run.report)
    more = _measured_later(trial, run.report)
    rest = took - in_steps + more
    return Estimate(
        seconds=sum(step.seconds for step in steps) + rest,
        steps=tuple(steps),
        rest=rest,
        end=end + more,
        memory=_memory(trial, features, run.device),
        folder=written,
        state=max((_state(timed) for timed in trial.timed.values()), default=0),
        features=features,
        device=run.report["device"],
        tried=trial.used["train"],
        samples=trial.full["train"],
        trial=time.monotonic() - began,
    )


def share_time(recipe: Recipe, within: str, *, device: str | None = None, precision: Precision | None = None) -> Within:
    """Share the time for a run (`10m`) out among its steps, by what they would take; what finding that takes counts."""
    try:
        seconds = seconds_of(within)
    except ValueError as error:
        raise InputError(f"--within: {error}") from error
    found = estimate(recipe, device=device, precision=precision)
    trains = {row.step - 1: (row.once, row.seconds - row.once) for row in found.steps if row.epoch is not None}
    others = {row.step - 1: row.seconds for row in found.steps if row.epoch is None}
    return Within(seconds - found.trial, trains, others | {END: found.end})


def _batch_size(recipe: Recipe) -> int:
    assert recipe.data is not None
    own = [step.samples for step in recipe.steps if isinstance(step, Train) and step.samples]
    return max([recipe.data.batch_size, *own])


def _quiet(step: Train) -> Train:
    """The step without what speaks of a run elsewhere."""
    return step.model_copy(update={"trackers": [], "callbacks": []})


def _steps(recipe: Recipe, trial: Trial, report: dict[str, Any]) -> tuple[list[StepCost], float]:
    """What each step takes, and the seconds of the trial that were spent in them."""
    steps: list[StepCost] = []
    spent = 0.0
    for row in report["stages"]:
        timed, once = trial.timed.get(row["step"] - 1), row.get("seconds", 0.0)
        spent += once + (timed.seconds if timed else 0.0)
        if timed is None:
            more = once + _growing(trial, row)
            steps.append(StepCost(row["step"], row["action"], more, more))
        else:
            once += _growing(trial, row) - row["epochs"][-1]["seconds"]
            steps.append(_train_cost(recipe, trial, row, timed, once))
    return steps, spent


def _measured_later(trial: Trial, report: dict[str, Any]) -> float:
    """What measuring the checkpoint takes more on the complete held-out data."""
    evaluation = report["evaluation"] or {"pass": 0.0, "parts": {}}
    parts = [part for part in evaluation["parts"] if part in trial.full]
    tried = sum(trial.used[part] for part in parts)
    return float(evaluation["pass"] * (sum(trial.full[part] for part in parts) / tried - 1)) if tried else 0.0


def _growing(trial: Trial, row: Mapping[str, Any]) -> float:
    """What a step takes more on the complete data, beside the epochs of a train step."""
    more = float(sum(seconds * (trial.share(part) - 1) for part, seconds in _passes(row).items()))
    more += float(row.get("solving", 0.0)) * (trial.share("train") - 1)
    if row["action"] == "evaluate":
        more += float(row["seconds"]) * (trial.share("validation") - 1)
    return more


def _train_cost(recipe: Recipe, trial: Trial, row: Mapping[str, Any], timed: Timed, once: float) -> StepCost:
    step = recipe.steps[row["step"] - 1]
    assert isinstance(step, Train)
    pace = timed.pace
    if not timed.on_features and trial.reading:
        images = trial.full["train"] + trial.full["validation"]
        once += trial.reading * images / trial.workers
    epoch = timed.batches * pace.batch + timed.per_epoch * pace.update
    ending = pace.measuring * trial.share("validation") + pace.saving
    epochs = timed.steps / timed.per_epoch
    seconds = once + epochs * epoch + timed.epochs * ending
    if step.time_budget is not None:
        limit = float(seconds_of(step.time_budget))
        if step.epochs is None and step.max_steps is None:
            epochs, seconds = round((limit - once) / (epoch + ending), 1), limit
        seconds = min(seconds, limit)
    return StepCost(row["step"], row["action"], seconds, once, epoch + ending, epochs)


def _state(timed: Timed) -> int:
    """Bytes of the state while the last epoch's is written."""
    return timed.model_bytes + min(STATES, timed.epochs) * timed.pace.written + sum(timed.copies)


def _features(trial: Trial, report: Mapping[str, Any], folder: Path) -> int:
    """Bytes of the features of the complete data, of the trial's in its cache."""
    parts = {part for row in report["stages"] for part, seconds in _passes(row).items() if seconds}
    if not parts or not folder.is_dir():
        return 0
    full, used = (sum(sizes[part] for part in parts) for sizes in (trial.full, trial.used))
    return round(folder_bytes(folder) * full / used)


def _passes(row: Mapping[str, Any]) -> dict[str, float]:
    """The seconds that a step spent on computing features, by part of the data."""
    found: dict[str, float] = row.get("passes") or (row.get("feature_cache") or {}).get("passes") or {}
    return found


def _memory(trial: Trial, features: int, device: torch.device) -> int:
    """The most memory: of the trial, and of what a run keeps for all samples."""
    if device.type == "cuda":
        return max((timed.pace.memory or 0 for timed in trial.timed.values()), default=0)
    beside = 1 - (trial.used["train"] + trial.used["validation"]) / (trial.full["train"] + trial.full["validation"])
    kept = features if features <= memory_budget() else 0
    if any(not timed.on_features for timed in trial.timed.values()):
        kept += trial.image_bytes
    return round((peak_memory(device) or 0) + beside * kept)


def _size(count: float) -> str:
    """`12 MB`, `3.4 GB`."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
