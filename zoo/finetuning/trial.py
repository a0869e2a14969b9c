"""A run that is only tried out: the recipe carried out for real, in a folder that is removed, on a few samples of its
data and with one optimizer step for each train step, each of which is timed (zoo.training.pace).

What a run does once (building, loading, tracing, writing the checkpoint, its report) is then done and timed, whatever
steps the recipe has; what grows with the samples or with the epochs is multiplied (zoo.finetuning.estimate).
"""

from __future__ import annotations

import copy
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.cache import cache_folder, cache_in
from zoo.data.open_data import OpenData, Part
from zoo.data.samples import Samples
from zoo.errors import InputError, listed
from zoo.preflight.verdict import Verdict
from zoo.training.pace import Pace, measure_pace

if TYPE_CHECKING:
    from zoo.steps.train import Train
    from zoo.training.trainer import Trainer

STATES = 3  # files of a train step's state that exist at once while another is written
BATCHES = 4  # of training samples; half as many for measuring
DECODED = 16  # samples that are read to know how long reading takes
LEFT_OUT = ("features", "test-looks")  # of the cache: what a trial computes is no result, what it looks at no look


def copies(options: Train, epoch: int) -> int:
    """How many copies of what trains the state behind an epoch has for the best one, or for an average."""
    if (rule := options.soup) is None:
        return int(options.keeps_best)
    if rule.swa is not None:  # one sum in double precision
        return 2 if rule.swa < 1 or epoch >= rule.swa else 0
    return min(rule.last or rule.greedy or 0, epoch)


@dataclass(frozen=True)
class Timed:
    """A train step as it was tried out: its pace, and the seconds that finding it took. `per_epoch` are the optimizer
    steps of an epoch of the complete data, `batches` its batches. `copies` are the bytes of the best epoch, or of an
    average's members, in each of the last states."""

    pace: Pace
    seconds: float
    batches: int
    per_epoch: int
    epochs: int
    steps: int
    accumulate: int
    on_features: bool
    model_bytes: int
    copies: tuple[int, ...] = ()


@dataclass
class Trial:
    """What a run that is tried out finds: `timed` by the train step's index, `full` and `used` samples of each part of
    `data`, which is the complete data, `reading` the seconds that reading an image takes, 0 of images in memory."""

    batch_size: int
    timed: dict[int, Timed] = field(default_factory=dict)
    full: dict[str, int] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    reading: float = 0.0
    workers: int = 1
    image_bytes: int = 0  # of the decoded images that the complete run keeps
    data: OpenData | None = None
    ended: float = 0.0  # when the last step was done

    def require(self, verdict: Verdict) -> None:
        """Raises InputError where something is not on this machine yet: a trial downloads nothing."""
        weights = [verdict.weights, *verdict.loads.values()]
        missing = [found.name for found in weights if found is not None and found.planned is None]
        missing += ["the data"] if verdict.data is None else []
        if missing:
            message = f"{listed(missing)}: not on this machine yet, so that what a run takes cannot be tried out"
            raise InputError(message, suggestion="run it once, for instance with --set data.limit=100: that fetches it")

    def cut(self, data: OpenData) -> OpenData:
        """The data with a few samples of each part."""
        parts: dict[Part, Samples] = {}
        for part, samples in data.parts.items():
            count = min(len(samples), self.batch_size * (BATCHES if part == "train" else max(BATCHES // 2, 1)))
            parts[part] = copy.copy(samples)
            parts[part].indices = samples.indices[np.linspace(0, len(samples) - 1, count).astype(int)]
            self.full[part], self.used[part] = len(samples), count
        self.data = data
        self._read(data)
        self.image_bytes = data.kept_bytes
        return replace(data, parts=parts, _fetchers={})

    def share(self, part: str) -> float:
        """How many times the samples of the trial the complete part has."""
        return self.full[part] / self.used[part] if part in self.full else 1.0

    def time(self, trainer: Trainer) -> None:
        """Time a train step that is about to begin, and let it end after its first optimizer step."""
        assert self.data is not None
        began, job = time.monotonic(), trainer.job
        pace = measure_pace(trainer)
        batches = len(self.data.order("train", batch_size=job.options.samples))
        per_epoch = -(-batches // job.options.accumulate)
        trained = sum(tensor.nbytes for tensor in trainer.unfrozen.values())
        epochs = job.options.epochs or -(-(job.options.max_steps or per_epoch) // per_epoch)
        self.timed[job.options.place.index] = Timed(
            pace,
            time.monotonic() - began,
            batches,
            per_epoch,
            epochs,
            min(job.options.max_steps or epochs * per_epoch, epochs * per_epoch),
            job.options.accumulate,
            bool(job.feature_cache) and job.network is not None,
            sum(tensor.nbytes for tensor in job.model.state_dict().values()),
            tuple(copies(job.options, epoch) * trained for epoch in range(epochs, max(epochs - STATES, 0), -1)),
        )
        trainer.take(0, 1)

    def _read(self, data: OpenData) -> None:
        """Time the reading of a few images; nothing where they are in memory."""
        samples = data.parts["train"]
        self.workers = max(data.batches("train", augment=False).workers, 1)
        positions = np.linspace(0, len(samples) - 1, min(DECODED, len(samples))).astype(int)
        if not isinstance(samples.raw(0)[0], str | os.PathLike):
            return
        began = time.perf_counter()
        for position in positions:
            samples.fitted(samples.raw(int(position))[0])
        self.reading = (time.perf_counter() - began) / len(positions)


@contextmanager
def trial_cache(folder: Path) -> Iterator[None]:
    """zoo's cache is in `folder` for the block: what is in the usual one, without features and looks at test data. The
    settings that the trial chooses by timing are those of the run, too."""
    usual = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    for path in usual.iterdir() if usual.is_dir() else ():
        if path.name not in LEFT_OUT:
            with suppress(OSError):
                shutil.copytree(path, folder / path.name) if path.is_dir() else shutil.copy2(path, folder / path.name)
    try:
        with cache_in(folder):
            yield
    finally:
        with suppress(OSError):  # a cache that cannot be written costs the run its own timing
            shutil.copytree(folder / "timings", usual / "timings", dirs_exist_ok=True)


@dataclass(frozen=True)
class Within:
    """The time that a run may take. `trains` are the seconds of each train step by its index, those before its epochs
    and those of them; `others` those of the other steps and, at `END`, of what follows the last one."""

    seconds: float
    trains: Mapping[int, tuple[float, float]]
    others: Mapping[int, float]

    def share(self, index: int, left: float) -> float:
        """The seconds for a train step, where so many are left: epochs are fewer in all steps by the same factor."""
        later = {number: seconds for number, seconds in self.trains.items() if number >= index}
        left -= sum(seconds for number, seconds in self.others.items() if number > index)
        left -= sum(once for once, _ in later.values())
        once, epochs = later[index]
        return once + max(left, 0.0) * epochs / max(sum(epochs for _, epochs in later.values()), 1e-9)


END = 1_000_000  # behind every step


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
