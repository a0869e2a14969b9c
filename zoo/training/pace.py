"""How long training takes here: a few real steps are timed, and leave no trace in what is trained.

What is timed is what the loop does: batches are read and moved, the model runs forward and backward, the optimizer
steps, an epoch is measured, its state is written. The first batch is not counted: in it kernels are chosen, memory is
asked for, and processes that read images start.
"""

from __future__ import annotations

import copy
import itertools
import statistics
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import broadcast_object_list

from zoo.data.batches import Batch, Batches
from zoo.model.undisturbed import undisturbed
from zoo.training.callbacks import Listener
from zoo.training.components import restore_state, state_of
from zoo.training.devices import forget_peak_memory, peak_memory
from zoo.training.job import Progress, fill
from zoo.training.optimizers import make_optimizer
from zoo.training.restore import training_state

if TYPE_CHECKING:
    from zoo.training.trainer import Trainer

clock = time.monotonic
TRIAL_SECONDS = 1.0  # of counted steps, or MOST of them; of measuring
MOST = 20


@dataclass(frozen=True)
class Pace:
    """Seconds of one batch (forward, backward, and reading it), of one optimizer step beside that, of measuring an
    epoch, and of writing its state; `batches` were timed. `written` are the bytes of that state's file, `memory` those
    that a GPU had allocated at most; None on a CPU."""

    batch: float
    update: float
    measuring: float
    saving: float
    batches: int
    written: int = 0
    memory: int | None = None

    def step(self, accumulate: int) -> float:
        """Seconds of an optimizer step that takes the gradients of `accumulate` batches."""
        return self.batch * accumulate + self.update


def measure_pace(trainer: Trainer, *, seconds: float = TRIAL_SECONDS) -> Pace:
    """Time a few steps of a train step that has not begun, or is about to go on.

    All processes take part, and get the same answer. Parameters, buffers, averages, progress and random generators are
    as before afterwards; the optimizer's own state is never touched, since another one steps in the trial.
    """
    optimizer = make_optimizer(trainer.job.model, trainer.job.options)
    with _left_as_it_was(trainer):
        batch, update, count = _time_steps(trainer, optimizer, seconds)
        memory = _memory(trainer)
        measuring = _time_measuring(trainer, seconds)
        saving, written = _time_saving(trainer, optimizer)
    found = [Pace(batch, update, measuring, saving, count, written, memory)]
    if trainer.accelerator.num_processes > 1:
        broadcast_object_list(found)
    return found[0]


def now(device: torch.device) -> float:
    """The clock, once the device has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock()


@contextmanager
def _left_as_it_was(trainer: Trainer) -> Iterator[None]:
    job, listener, progress, average = trainer.job, trainer.listener, trainer.progress, trainer.average
    values = {name: tensor.detach().clone() for name, tensor in trainer.unfrozen.items()}
    sums = trainer.loss_sum.clone(), trainer.broken_at.clone()
    own = copy.deepcopy(state_of(trainer.loss.own))
    looked = trainer.rate, trainer.rates
    trainer.listener = Listener()  # nobody is told of steps that do not count
    trainer.progress = Progress(batch=1, parts=progress.parts, validation_parts=progress.validation_parts)
    trainer.average = _apart(average) if average else None
    try:
        with undisturbed(job.model, training=True, buffers=True):
            yield
    finally:
        fill(trainer.unfrozen, values)
        restore_state(trainer.loss.own, own)
        trainer.job, trainer.listener, trainer.progress, trainer.average = job, listener, progress, average
        trainer.loss_sum.copy_(sums[0])
        trainer.broken_at.copy_(sums[1])
        trainer.rate, trainer.rates = looked


def _apart(average: Any) -> Any:
    other = copy.copy(average)
    other.average = {name: tensor.clone() for name, tensor in average.average.items()}
    return other


def _memory(trainer: Trainer) -> int | None:
    """What training had allocated at most on a GPU; the copies of values that only the trial keeps are not counted."""
    if trainer.device.type != "cuda":
        return None
    copies = sum(tensor.nbytes for tensor in trainer.unfrozen.values()) * (2 if trainer.average else 1)
    return (peak_memory(trainer.device) or 0) - copies


def _time_steps(trainer: Trainer, optimizer: torch.optim.Optimizer, seconds: float) -> tuple[float, float, int]:
    """Seconds of a batch and of an update, the median over as many batches as every process agrees on: what a busy
    machine adds to one of a few would count too much."""
    batches, device, micro = _endless(trainer.job.train), trainer.device, trainer.micro_batches
    spent: list[tuple[float, float]] = []

    def one(index: int) -> None:
        began = now(device)
        batch = next(batches)
        with trainer._explained(batch):
            if index == 0:
                micro.agree(batch, on_trial=True)
            micro.begin_step()
            while not micro.train(index % len(trainer.job.train), batch, last=True):
                micro.halve(on_trial=True)
            passed = now(device)
            optimizer.step()
            optimizer.zero_grad()
            if trainer.average:
                trainer.average.update()
        spent.append((passed - began, now(device) - passed))

    forget_peak_memory(device)
    one(0)
    one(1)
    first = sum(spent[1])
    counts = [1 + min(int(seconds / max(first, 1e-9)), MOST)]
    if trainer.accelerator.num_processes > 1:
        broadcast_object_list(counts)
    for index in range(2, counts[0] + 1):
        one(index)
    batches.close()
    batch, update = (statistics.median(seconds) for seconds in zip(*spent[1:], strict=True))
    return batch, update, counts[0]


def _endless(batches: Batches) -> Generator[Batch]:
    while True:
        yield from batches.epoch(0)


class _First:
    """The first batches of an epoch alone."""

    def __init__(self, batches: Batches, count: int) -> None:
        self.batches, self.count = batches, count

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return itertools.islice(self.batches.epoch(epoch, start), self.count)


def _time_measuring(trainer: Trainer, seconds: float) -> float:
    validation, job = trainer.job.validation, trainer.job

    def few(count: int) -> float:
        began = now(trainer.device)
        trainer.job = replace(job, validation=_First(validation, count))  # type: ignore[arg-type]
        trainer._measure()
        return now(trainer.device) - began

    first = few(1)
    counts = [min(len(validation), 1 + int(seconds / max(first, 1e-9)), MOST)]
    if trainer.accelerator.num_processes > 1:
        broadcast_object_list(counts)
    return few(counts[0]) / counts[0] * len(validation)


def _time_saving(trainer: Trainer, optimizer: torch.optim.Optimizer) -> tuple[float, int]:
    """Seconds of writing the state behind an epoch, and its bytes; of the first process alone, which writes."""
    began = clock()
    training = training_state(trainer) | {"optimizer": optimizer.state_dict()}
    written = 0
    if trainer.accelerator.is_main_process:
        written = trainer.state.write_on_trial(training, trainer.unfrozen)
    return clock() - began, written
