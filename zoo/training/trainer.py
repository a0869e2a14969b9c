"""The training loop, on Accelerate: epochs over batches, evaluated, saved, and resumable after any optimizer step.

Resuming in the middle of an epoch is exact because everything that decides the next batch is either a function of
(seed, epoch, position), as the order of the samples and their augmentation are (zoo.data), or part of the saved state:
parameters, moving averages, optimizer, schedule, gradient scaler, and each process's random generators. Progress counts
batches, so that a resumed epoch begins with the batch after the last one; states are written after complete optimizer
steps only, so that no accumulated gradient has to be kept. The epoch's loss so far is a sum on the device and saved,
too: a resumed epoch reports what an uninterrupted one does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zoo.data.batches import Batch, Batches, Inputs
from zoo.errors import Problem, TerminatedError, WorkError, ZooError
from zoo.lint import check_optimizer
from zoo.model.gradient_checkpointing import checkpointed
from zoo.model.prediction import auxiliary, prediction
from zoo.model.unstandardise import unstandardising
from zoo.training.averaging import EpochAverage
from zoo.training.callbacks import Listener
from zoo.training.choosing import Criterion, Patience
from zoo.training.compiled import Compiled
from zoo.training.devices import (
    forget_peak_memory,
    forward_as_written,
    make_accelerator,
    peak_memory,
    to_layout,
)
from zoo.training.ema import MovingAverage
from zoo.training.gradual import GradualUnfreezing
from zoo.training.hooks import Callbacks
from zoo.training.job import Job, Progress, arranged, fill, unfrozen_tensors
from zoo.training.losses import make_loss, plain
from zoo.training.metrics import explain, make_metrics, measure
from zoo.training.micro_batches import MicroBatches
from zoo.training.optimizers import carry_over, make_optimizer
from zoo.training.restore import restore, restore_weights, training_state
from zoo.training.schedulers import Schedule, training_length
from zoo.training.signals import ENDING
from zoo.training.state import Saved, StateFolder
from zoo.training.sync_batch_norm import SyncBatchNorm, note_batch_norm
from zoo.training.time_budget import Plan

if TYPE_CHECKING:
    pass

LOOK_SECONDS = 0.5  # reading the loss makes a GPU wait: not more often than this
SAVE_SECONDS = 600.0  # in an epoch longer than this the state is also written in between
ADVICE = "lower lr, add warmup or clip_grad_norm, or set precision: float32"


class NotFiniteError(WorkError):
    """Training diverged, as it would again with the same values; at the batch `index` of the present epoch."""

    def __init__(self, message: str, index: int, suggestion: str = ADVICE) -> None:
        super().__init__(message, suggestion=suggestion)
        self.index = index


class Trainer:
    """Trains one train step: `begin` or `restore`, then `run`. `state` is where it is saved for `--resume`."""

    def __init__(self, job: Job, state: StateFolder, listener: Listener) -> None:
        options = job.options
        self.job, self.state = job, state
        self.accelerator = make_accelerator(job.device, job.precision, thaws=options.unfreeze_gradually is not None)
        self.device = self.accelerator.device
        self.listener = listener if self.accelerator.is_main_process else Listener()
        to_layout(job.model.to(self.device), job.memory_format)
        given: dict[str, Any] = {"label_smoothing": options.label_smoothing, "device": self.device}
        given |= {"mean_weight": job.weighted.mean if job.weighted else None}
        self.loss = make_loss(job.loss, job.task, **given, unit=unstandardising(job.model))
        # what is shown is in the unit of the data, as the validation loss is
        self.shown_loss = self.loss if self.loss.unit is None else make_loss(job.loss, job.task, **given)
        self.validation_loss = make_loss(plain(job.loss), job.task, device=self.device)
        judged: dict[str, Any] = {"thresholds": job.thresholds, "classes": job.classes}
        self.metrics = make_metrics(options.measured(job.task), job.task, job.outputs, self.device, **judged)
        best, stop = (Criterion.of(self.metrics, name) for name in options.chosen_by)
        self.criterion, rule = best, options.patience
        self.patience = Patience(stop, rule.patience, rule.min_delta) if rule else None
        self.gradual = GradualUnfreezing(job.model, options.gradual, job.frozen, self._note)
        self.gradual.enter(self.gradual.last)
        optimizer = make_optimizer(job.model, options, self.gradual.begins)
        carried = carry_over(optimizer, job.moments)
        self.groups = self.gradual.rates(optimizer)
        self.per_epoch = math.ceil(len(job.train) / options.accumulate)
        self.epochs, self.steps = training_length(options, self.per_epoch)
        self.most = self.steps
        length = {"steps": self.steps, "epochs": self.epochs, "per_epoch": self.per_epoch}
        self.schedule = Schedule(optimizer, options, **length, higher_is_better=self.metrics.higher_is_better)
        if traps := check_optimizer(job.model, optimizer, self.schedule.inner):
            raise WorkError(Problem(trap.message, suggestion=trap.suggestion) for trap in traps)
        self.second_order = getattr(optimizer, "is_second_order", False)  # timm's adahessian and the like
        self.optimizer = self.accelerator.prepare_optimizer(optimizer)
        self.network = self.accelerator.prepare_model(job.network or job.model)
        self.compiled = Compiled(self.network) if options.compile else None
        self.forward = self.compiled or self.network
        # a compiled forward does not meet what answers torch's batch norm in its place
        self.synchronises = self.accelerator.num_processes > 1 and not options.compile
        self.unfrozen = unfrozen_tensors(job.model, job.frozen)
        self.average = MovingAverage(self.unfrozen, options.ema) if options.ema else None
        self.soup = EpochAverage(options.soup, self.epochs, self.criterion) if options.soup else None
        self.averaged: dict[str, Any] | None = None  # the report's record of the epochs' average
        self.best: dict[str, Tensor] | None = None
        self.callbacks = Callbacks(options.callbacks)
        self.last: dict[str, Tensor] | None = None  # the last epoch's, where an earlier one is kept
        self.progress = Progress(carried=carried)
        self.plan: Plan | None = None
        self.loss_sum = torch.zeros((), device=self.device)
        self.broken_at = torch.full((), -1, device=self.device)  # the epoch's first batch whose loss was not finite
        self.micro_batches = MicroBatches(self)
        self.rate = 0.0  # samples a second in the present epoch
        self.rates: list[float] = [0.0]  # learning rates of the last optimizer step, by parameter group
        self._looked = self._saved = self._started = time.monotonic()
        self.checkpointed: set[str] = set()  # the blocks that are run again in the backward pass
        self._first, self.noted = 0, False
        self.gradual.enter(0)  # behind what has to know of all that will train

    def run(self) -> Progress:
        """Train to the end; the model then has the values that `conclude` chooses. A KeyboardInterrupt passes through.

        Raises WorkError for a loss that is no longer finite, and for what fails in torch.
        """
        self.listener.step_started(self)
        try:
            note_batch_norm(self)
            self.callbacks.begin(self)
            with ENDING.waiting():
                self._train_epochs()
            self.gradual.end(self.progress)
            self.averaged = self.soup.conclude(self) if self.soup is not None else None
            self.conclude()
            self.callbacks.call(self, "train_ended")
            self.callbacks.check()
        finally:
            self.job.train.close()
            self.listener.step_ended(self)
        return self.progress

    def _train_epochs(self) -> None:
        while not self._finished:
            began = time.monotonic() - self.progress.seconds
            self._train_epoch(began)
            self._end_epoch(began)
            ENDING.check()

    def synchronised(self) -> AbstractContextManager[Any]:
        """Around a forward pass that trains: batch norms of several processes normalise by the batch of all of them."""
        return SyncBatchNorm() if self.synchronises else nullcontext()

    def stalled(self) -> str:
        """Why early stopping ends the training here, or nothing."""
        if self.patience is None or not self.patience.is_over(self.progress.history):
            return ""
        waited, best = self.patience.waited(self.progress.history)
        better = f"than in epoch {best}" if best else "or defined"
        return f"validation {self.patience.criterion.metric} was not better {better} for {waited} epochs"

    def _note(self, text: str) -> None:
        self.listener.note(f"{self.job.label}: {text}")

    @property
    def _finished(self) -> bool:
        progress = self.progress
        done = progress.steps >= self.steps and not progress.batch  # else the last epoch has not been ended yet
        return progress.epoch >= self.epochs or done or bool(progress.stopped)

    def _train_epoch(self, began: float) -> None:
        self.gradual.thaw(self.progress.epoch)
        self.job.model.train()
        forget_peak_memory(self.device)
        if not self.progress.batch:
            self.callbacks.call(self, "epoch_started")
        self._started, self._first, begun = time.monotonic(), self.progress.batch, self.progress.steps
        blocks: AbstractContextManager[set[str]] = nullcontext(set())
        if saving := self.job.options.gradient_checkpointing:
            blocks = checkpointed(self.job.model, self.synchronised)
        with blocks as called:
            while not self._train_batches(began):
                self.micro_batches.halve()
        self.checkpointed |= called
        if saving and not called and self.progress.steps > begun:
            self.listener.note("warning: gradient_checkpointing does nothing: the network calls none of its blocks")

    def _train_batches(self, began: float) -> bool:
        """Train on the rest of the epoch's batches; False where memory ran out, and smaller parts are left to try."""
        progress = self.progress
        if progress.steps >= self.steps:  # interrupted behind the last step, before the epoch was ended
            return True
        for index, batch in enumerate(self.job.train.epoch(progress.epoch, progress.batch), progress.batch):
            last = self._completes(index)
            if not self.train_on(index, batch):
                return False
            progress.batch = index + 1
            if last and self.plan:
                self.plan.look()
            now = time.monotonic()
            if now - self._looked > LOOK_SECONDS:
                self._look()
            ends = ENDING.due() if last else None
            if last and (ends or now - self._saved > SAVE_SECONDS):
                self._look()  # a state to resume from has a finite loss
                self._save_within(began)
            if ends:
                raise TerminatedError(ends)
            if progress.steps == self.steps:
                break
        return True

    def train_on(self, index: int, batch: Batch) -> bool:
        """Add the gradients of an epoch's batch `index`, and take the optimizer step that it completes; False where
        memory ran out, and smaller parts are left to try."""
        last = self._completes(index)
        if index % self.job.options.accumulate == 0:
            self.micro_batches.agree(batch)
            self.micro_batches.begin_step()
        with self._explained(batch):
            if not self.micro_batches.train(index, batch, last):
                return False
            if last:
                self._step()
        return True

    def _completes(self, index: int) -> bool:
        return index + 1 == len(self.job.train) or (index + 1) % self.job.options.accumulate == 0

    @property
    def epoch_ends(self) -> bool:
        """Whether the present optimizer step is the epoch's last, and the epoch has not been ended yet."""
        return self.progress.batch == len(self.job.train)

    def steps_before(self) -> int:
        """The optimizer steps in front of the present epoch."""
        return int(self.progress.history[-1]["steps"]) if self.progress.history else 0

    def backward(self, index: int, batch: Batch, last: bool) -> None:
        """Add a batch's gradients, so that every sample of the optimizer step has the same weight."""
        accumulate = self.job.options.accumulate
        first = index - index % accumulate
        total = self._samples(first, min(first + accumulate, len(self.job.train)))
        with nullcontext() if last else self.accelerator.no_sync(self.network):
            with self.synchronised():
                outputs = self.forward(*arranged(batch.inputs, self.job))
            answers = prediction(outputs)
            loss = self.loss(answers, batch.targets)
            aided = loss + self._auxiliary_loss(outputs, batch)
            share = self.loss.share(len(batch.targets), total, self.accelerator.num_processes)
            self.accelerator.backward(aided * share, create_graph=self.second_order)
        loss = loss.detach() if self.loss.unit is None else self.shown_loss(answers.detach(), batch.targets)
        self.loss_sum += self.loss.total(loss, len(batch.targets))
        broken = (self.broken_at < 0) & ~loss.isfinite()
        self.broken_at = torch.where(broken, index, self.broken_at)

    def _auxiliary_loss(self, outputs: Any, batch: Batch) -> Tensor | float:
        """What auxiliary classifiers add to the loss that is minimised; what is shown is the main loss alone."""
        weight = self.job.options.auxiliary_loss
        others = auxiliary(outputs) if weight else []
        if others and not self.noted:
            self.noted = True
            self._note(f"{len(others)} auxiliary outputs are in the loss, each times {weight:g}")
        return weight * sum(self.loss(one, batch.targets) for one in others) if others else 0.0

    def _step(self) -> None:
        if self.job.options.clip_grad_norm:
            trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
            self.accelerator.clip_grad_norm_(trained, self.job.options.clip_grad_norm)
        groups = self.optimizer.param_groups
        self.rates = [float(g["lr"]) if any(p.requires_grad for p in g["params"]) else 0.0 for g in groups]
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        if self.average:
            self.average.update()
        self.progress.steps += 1
        self.callbacks.call(self, "step_ended")
        self.callbacks.check()

    def _end_epoch(self, began: float) -> None:
        progress = self.progress
        record: dict[str, Any] = {
            "epoch": progress.epoch + 1,
            "steps": progress.steps,
            "lr": max(self.rates),
            "lr_by_group": self.rates,
            "loss": self._look(everywhere=True),
        }
        self._check_weights()
        try:
            with self.average.applied() if self.average else nullcontext():
                with ENDING.between():
                    record["validation"] = self._measure()
                self._keep_best(self.criterion.value(record))
                if self.soup is not None:
                    self.soup.add(progress.epoch + 1, self.criterion.value(record), self.unfrozen)
        except TerminatedError:
            self._save_within(began)
            raise
        self.schedule.end_epoch(record["validation"][self.metrics.main])
        self.callbacks.call(self, "validation_ended", record["validation"])
        progress.seconds = time.monotonic() - began
        record |= {
            "images_per_second": self.rate,
            "seconds": progress.seconds,
            "peak_memory": peak_memory(self.device),
        }
        progress.history.append(record)
        progress.epoch, progress.batch = progress.epoch + 1, 0
        self.loss_sum.zero_()
        self.callbacks.call(self, "epoch_ended")
        progress.stopped = self.callbacks.stopped(self.accelerator.num_processes) or self.stalled()
        self.gradual.end_epoch(progress, finished=self._finished)
        self.save(epoch_end=True)
        self.listener.epoch_ended(self, record)
        self.callbacks.check()
        if self.plan:
            self.plan.epoch_ended()
        if progress.stopped:
            self._note(f"stopped behind epoch {progress.epoch}: {progress.stopped}")

    def take(self, step: int, total: int) -> None:
        """Plan `total` optimizer steps in all: from `step`, the present one, on learning rates are those of a training
        that was so long from its beginning."""
        self.progress.plan.append([step, total])
        self.lengthen(total)
        rows = [(row["steps"], row["validation"][self.metrics.main]) for row in self.progress.history]
        self.schedule.replay([*rows, (step, None)])

    def lengthen(self, total: int) -> None:
        """A fresh schedule over `total` optimizer steps."""
        self.steps, self.epochs = total, math.ceil(total / self.per_epoch)
        self.callbacks.lengthened(self)
        if self.soup is not None:
            self.soup.over(self.epochs)
        self.schedule = self.schedule.over(steps=self.steps, epochs=self.epochs)

    def _measure(self) -> dict[str, float]:
        if self.job.options.measures_exactly:
            return self.measure_exactly()
        forward = self.forward
        if self.job.validation_network is not None:
            forward = self.job.validation_network
        elif self.accelerator.num_processes > 1:  # processes may have different numbers of batches
            forward = self.accelerator.unwrap_model(self.network, keep_fp32_wrapper=True)

        def measured(inputs: Inputs) -> Any:
            with self.accelerator.autocast():
                return forward(*arranged(inputs, self.job))

        return self._measured(measured, self.job.validation)

    def measure_exactly(self) -> dict[str, float]:
        """Validation in float32 whatever training computes in: what is best here is what makes the best file."""
        job = replace(self.job, precision="float32")
        network = job.validation_network or job.network or job.model
        with forward_as_written(network):
            return self._measured(lambda inputs: network(*arranged(inputs, job)), job.validation)

    def _measured(self, forward: Callable[[Inputs], Any], batches: Batches) -> dict[str, float]:
        forward = self.micro_batches.validating(forward)
        return measure(self.job.model, forward, batches.epoch(0), self.validation_loss, self.metrics)

    def _keep_best(self, value: float) -> None:
        best = self.progress.best
        if self.criterion.better(value, best["value"] if best else None):  # not where it is undefined
            self.progress.best = {"epoch": self.progress.epoch + 1, "metric": self.criterion.metric, "value": value}
            if self.job.options.keeps_best:
                self.best = {name: tensor.clone() for name, tensor in self.unfrozen.items()}

    def _look(self, *, everywhere: bool = False) -> float:
        """The epoch's mean loss so far, of all processes with `everywhere`. Raises WorkError where it is not finite."""
        self._looked = time.monotonic()
        self.rate = self._samples(self._first, self.progress.batch) / max(self._looked - self._started, 1e-9)
        total = self.accelerator.reduce(self.loss_sum) if everywhere else self.loss_sum * self.accelerator.num_processes
        summed, broken = torch.stack([total, self.broken_at]).tolist()
        if broken >= 0:
            step = self.steps_before() + int(broken) // self.job.options.accumulate + 1
            raise NotFiniteError(f"{self.job.label}: the loss is not finite at step {step}", int(broken))
        loss: float = summed / self._samples(0, self.progress.batch)
        self.listener.progressed(self, loss)
        return loss

    def _check_weights(self) -> None:
        """Raises NotFiniteError for weights that the last step of an epoch broke: no later loss shows it."""
        trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        if not torch.stack([parameter.isfinite().all() for parameter in trained]).all():
            message = f"{self.job.label}: the weights are not finite after step {self.progress.steps}"
            raise NotFiniteError(message, self.progress.batch - 1)

    def _samples(self, first: int, end: int) -> int:
        return sum(self.job.train.size(index) for index in range(first, end))

    @contextmanager
    def _explained(self, batch: Batch) -> Iterator[None]:
        try:
            yield
        except ZooError:
            raise
        except Exception as error:
            shape = list(getattr(batch.inputs, "shape", ()))
            doing = f"{self.job.label}, step {self.progress.steps + 1}, on inputs {shape}"
            raise explain(error, doing) from error

    def conclude(self) -> None:
        """Copy into the model what the step ends with: the best epoch, the averages, or the last values."""
        if self.best is not None:
            if self.progress.best and self.progress.best["epoch"] < self.progress.epoch:
                last = self.average.average if self.average else self.unfrozen
                self.last = {name: last.get(name, tensor).clone() for name, tensor in self.unfrozen.items()}
            fill(self.unfrozen, self.best)
        elif self.average is not None:
            fill(self.unfrozen, self.average.average)
        self.accelerator.unwrap_model(self.network, keep_fp32_wrapper=False)

    def begin(self, step: int, run: dict[str, Any]) -> None:
        """Save the state that the train step starts from; `step` is its index, `run` what else the run has to know."""
        training = training_state(self)
        if self.accelerator.is_main_process:
            self.progress.digests = [self.state.begin(step, run, training, self.job.model.state_dict())]

    def save(self, *, epoch_end: bool = False) -> None:
        training = training_state(self)
        if self.accelerator.is_main_process:
            digest = self.state.save(training, self.unfrozen, steps=self.progress.steps, epoch_end=epoch_end)
            if epoch_end:
                self.progress.digests.append(digest)
        self._saved = time.monotonic()

    def _save_within(self, began: float) -> None:
        """Save in the middle of an epoch that `began` then."""
        self.progress.seconds = time.monotonic() - began
        self.save()

    def restore(self, saved: Saved) -> None:
        """Continue from a saved state, see `zoo.training.restore`."""
        restore(self, saved)

    def rewind(self) -> bool:
        """After an interrupt or a failure: return to the last complete epoch and conclude with it.

        False where this step has none: the model is then as it was when the step began.
        """
        saved = self.state.last_epoch()
        if saved is None:
            return False
        restore_weights(self, saved)
        self.conclude()
        return self.progress.epoch > 0
