"""What wants to know how training goes: the progress display, and whatever else draws or logs."""

from __future__ import annotations

import sys
from typing import IO, TYPE_CHECKING, Any

from zoo.recipe.step import shown
from zoo.training.losses import label_of

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from zoo.training.trainer import Trainer


class Listener:
    """Called in the main process only. Every method may be left as it is, which is to do nothing."""

    def step_started(self, trainer: Trainer) -> None:
        """A train step begins; `trainer.job` has the model and the batches."""

    def progressed(self, trainer: Trainer, loss: float) -> None:
        """Twice a second at most: the mean loss of the epoch so far."""

    def epoch_ended(self, trainer: Trainer, record: dict[str, Any]) -> None:
        """An epoch was trained and measured; `record` is its row of the report."""

    def step_ended(self, trainer: Trainer) -> None:
        """The train step is over, or was interrupted."""

    def note(self, text: str) -> None:
        """A remark for the person."""


class Listeners(Listener):
    """Several listeners as one, called in turn."""

    def __init__(self, *listeners: Listener) -> None:
        self.listeners = listeners

    def step_started(self, trainer: Trainer) -> None:
        for listener in self.listeners:
            listener.step_started(trainer)

    def progressed(self, trainer: Trainer, loss: float) -> None:
        for listener in self.listeners:
            listener.progressed(trainer, loss)

    def epoch_ended(self, trainer: Trainer, record: dict[str, Any]) -> None:
        for listener in self.listeners:
            listener.epoch_ended(trainer, record)

    def step_ended(self, trainer: Trainer) -> None:
        for listener in self.listeners:
            listener.step_ended(trainer)

    def note(self, text: str) -> None:
        for listener in self.listeners:
            listener.note(text)


class Display(Listener):
    """Loss, metric, images a second and time left."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self.stream = stream or sys.stderr
        self.bar: Bar | None = None
        self.task: Any = None

    def step_started(self, trainer: Trainer) -> None:
        if way := trainer.job.approximate:
            self._print(f"{trainer.job.label}: ~ is measured as it trains ({way}); the end measures the file itself")
        if self.stream.isatty():
            self._start_bar(trainer)

    def progressed(self, trainer: Trainer, loss: float) -> None:
        if self.bar is None:
            return
        done, whole = trainer.progress.batch, len(trainer.job.train)
        last = trainer.progress.history[-1]["validation"] if trainer.progress.history else {}
        told = [f"loss {loss:.4f}", _metric(last, trainer), f"{trainer.rate:.0f} images/s", f"{_left(trainer)} left"]
        title = f"{trainer.job.label} epoch {trainer.progress.epoch + 1}/{trainer.epochs}"
        self.bar.update(self.task, completed=done, total=whole, description=title, told="  ".join(filter(None, told)))

    def epoch_ended(self, trainer: Trainer, record: dict[str, Any]) -> None:
        validation = record["validation"]
        told = [
            f"{trainer.job.label} epoch {record['epoch']}/{trainer.epochs}",
            f"loss {record['loss']:.4f}",
            f"validation {label_of(trainer.job.options.loss)} {_about(trainer)}{shown(validation['loss'])}",
            _metric(validation, trainer),
            f"{record['images_per_second']:.0f} images/s",
            f"{_clock(record['seconds'])}, {_left(trainer)} left",
        ]
        self._print("  ".join(told))

    def step_ended(self, trainer: Trainer) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def note(self, text: str) -> None:
        self._print(text)

    def _print(self, text: str) -> None:
        if self.bar is not None:
            self.bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=self.stream, flush=True)

    def _start_bar(self, trainer: Trainer) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[told]}"))
        self.bar = Progress(*columns, console=Console(file=self.stream), transient=True)
        self.task = self.bar.add_task(trainer.job.label, total=len(trainer.job.train), told="")
        self.bar.start()


def _metric(measured: dict[str, float], trainer: Trainer) -> str:
    name = trainer.metrics.main
    return f"{name} {_about(trainer)}{shown(measured[name])}" if name in measured else ""


def _about(trainer: Trainer) -> str:
    """The sign in front of a number that the finished model's need not equal."""
    return "~" if trainer.job.approximate else ""


def _left(trainer: Trainer) -> str:
    """From the pace of this train step so far, its measuring included."""
    progress, per_epoch = trainer.progress, trainer.steps / trainer.epochs
    rest = 1 - progress.steps / trainer.steps
    if progress.history:
        whole = progress.history[-1]["seconds"] / progress.history[-1]["steps"] * trainer.steps
    else:
        samples = sum(trainer.job.train.size(index) for index in range(len(trainer.job.train)))
        whole = samples / max(trainer.rate, 1e-9) / per_epoch * trainer.steps
    return _clock(whole * rest)


def _clock(seconds: float) -> str:
    """`8.3 s`, `4:05`, `1:02:03`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
