"""What it costs that images change in every epoch, so that a frozen backbone runs at every step: measured on a few."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from zoo.data.open_data import OpenData
from zoo.training.trunk.engine import Engine

MEASURED = 16  # images
USUAL_VIEWS = 4


@dataclass(frozen=True)
class Changing:
    """What changes images at random in every epoch, in words of the recipe: nothing where nothing does; and what to
    write so that features can be kept, of so many passes over the images."""

    why: str = ""
    instead: str = ""
    passes: int = 1

    def __bool__(self) -> bool:
        return bool(self.why)


@dataclass(frozen=True)
class Cost:
    """Images a second: read and changed by one process, and through the frozen backbone alone; how many processes read;
    and what a sample's features take in a feature cache."""

    changed_per_second: float
    backbone_per_second: float
    processes: int
    bytes_per_sample: int

    def said(self, changing: Changing, samples: int) -> str:
        """A line for the person: what changes, what that costs in an epoch of so many samples, and what avoids it."""
        passes = changing.passes
        made, passed = samples / self.changed_per_second / self.processes, samples / self.backbone_per_second
        each = f" in each of {self.processes} processes" if self.processes > 1 else ""
        size = self.bytes_per_sample * samples * passes / 1e6
        return (
            f"{changing.why}: images change in every epoch, so no feature cache: reading them "
            f"({self.changed_per_second:,.0f} images/s{each}) and the frozen backbone "
            f"({self.backbone_per_second:,.0f} images/s) take up to {shown(made + passed)} of each epoch. "
            f"{changing.instead} takes {shown(passes * (made + passed))} once, and {size:,.1f} MB"
        )


def shown(seconds: float) -> str:
    """`12.3 s`, `5 min`."""
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.1f} s"


def measure_cost(engine: Engine, data: OpenData, device: torch.device) -> Cost:
    """Of the second of two passes of a few training images, on the device to its end."""
    batches = data.batches("train", device=device, batch_size=MEASURED, shuffle=False, once=True)
    processes, batches.workers = max(batches.workers, 1), 0  # a few images are not worth the start of a process
    made = passed = 0.0
    for _ in range(2):
        started = time.perf_counter()
        inputs = next(batches.epoch(0)).inputs
        _finish(device)
        changed = time.perf_counter()
        features = engine(inputs)
        _finish(device)
        made, passed = changed - started, time.perf_counter() - changed
    count = len(inputs)
    return Cost(count / made, count / passed, processes, sum(tensor[0].nbytes for tensor in features))


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
