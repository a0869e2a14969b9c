"""What wants to know how training goes: the progress display, and whatever else draws or logs."""

from __future__ import annotations

import sys
from typing import IO, TYPE_CHECKING, Any

from zoo.errors import printable
from zoo.recipe.step import shown
from zoo.training.losses import label_of

if TYPE_CHECKING:
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


class Stream:
    """A stream of text that may go away (a closed terminal, a full disk): what is written then is lost, no more."""

    def __init__(self, stream: IO[str] | None) -> None:
        self.stream = stream
        self.encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        if self.stream is not None:
            try:
                self.stream.write(text)
            except UnicodeEncodeError:
                self.write(text.encode(self.encoding, "replace").decode(self.encoding))
            except (OSError, ValueError) as error:
                self._lose(error)
        return len(text)

    def flush(self) -> None:
        if self.stream is not None:
            try:
                self.stream.flush()
            except (OSError, ValueError) as error:
                self._lose(error)

    def isatty(self) -> bool:
        try:
            return self.stream is not None and self.stream.isatty()
        except (OSError, ValueError):
            return False

    def _lose(self, error: Exception) -> None:
        if not isinstance(error, BlockingIOError):  # of a terminal that is busy now
            self.stream = None


class Display(Listener):
    """Plain lines: one an epoch, with loss, metric, images a second and time left, and every remark."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self.stream = Stream(stream or sys.stderr)

    def step_started(self, trainer: Trainer) -> None:
        if way := trainer.job.approximate:
            self._print(f"{trainer.job.label}: ~ is measured as it trains ({way}); the end measures the file itself")

    def epoch_ended(self, trainer: Trainer, record: dict[str, Any]) -> None:
        validation = record["validation"]
        told = [
            f"{trainer.job.label} epoch {record['epoch']}/{trainer.epochs}",
            f"loss {record['loss']:.4f}",
            f"validation {label_of(trainer.job.options.loss)} {about(trainer)}{shown(validation['loss'])}",
            metric(validation, trainer),
            f"{record['images_per_second']:.0f} images/s",
            f"{clocked(record['seconds'])}, {left(trainer)} left",
        ]
        self._print("  ".join(told))

    def note(self, text: str) -> None:
        self._print("\n".join(map(printable, text.split("\n"))))

    def close(self) -> None:
        """Leave the terminal as it was, wherever the run has ended."""

    def _print(self, text: str) -> None:
        self.stream.write(f"{text}\n")
        self.stream.flush()


class Quiet(Display):
    """Warnings, and what a run that ended early has kept; nothing else."""

    def step_started(self, trainer: Trainer) -> None:
        pass

    def epoch_ended(self, trainer: Trainer, record: dict[str, Any]) -> None:
        pass

    def note(self, text: str) -> None:
        if text.startswith(("warning:", "interrupted:", "failed:")):
            super().note(text)


def metric(measured: dict[str, float], trainer: Trainer) -> str:
    """The main metric, `accuracy 0.9100`; empty before it is measured."""
    name = trainer.metrics.main
    return f"{name} {about(trainer)}{shown(measured[name])}" if name in measured else ""


def about(trainer: Trainer) -> str:
    """The sign in front of a number that the finished model's need not equal."""
    return "~" if trainer.job.approximate else ""


def left(trainer: Trainer) -> str:
    """The time to the end of the train step, from the pace of this train step so far, its measuring included."""
    progress, per_epoch = trainer.progress, trainer.steps / trainer.epochs
    rest = 1 - progress.steps / trainer.steps
    if progress.history:
        whole = progress.history[-1]["seconds"] / progress.history[-1]["steps"] * trainer.steps
    else:
        samples = sum(trainer.job.train.size(index) for index in range(len(trainer.job.train)))
        whole = samples / max(trainer.rate, 1e-9) / per_epoch * trainer.steps
    return clocked(whole * rest)


def clocked(seconds: float) -> str:
    """`8.3 s`, `4:05`, `1:02:03`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
