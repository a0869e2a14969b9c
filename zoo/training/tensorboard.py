"""A run's TensorBoard log: the curves of training, and the writer of pictures.

All train steps of a recipe share one axis, the optimizer steps since the run began.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError, WorkError
from zoo.training.callbacks import Listener

if TYPE_CHECKING:
    from zoo.training.trainer import Trainer


FOLDER = "tensorboard"  # in the run's folder
FLUSH_SECONDS = 10  # torch's two minutes are long for someone who watches a run


def require_tensorboard() -> Any:
    """torch's SummaryWriter. Raises InputError where the package `tensorboard` is missing or too old."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(f"tensorboard cannot be used: {error}", suggestion="pip install tensorboard") from error
    return SummaryWriter


def open_writer(folder: Path, *, purge_step: int | None = None) -> Any:
    """A SummaryWriter on a new file in `folder`; TensorBoard discards what older files contain from `purge_step` on."""
    writer = require_tensorboard()
    with explained(folder):
        return writer(str(folder), purge_step=purge_step, flush_secs=FLUSH_SECONDS)


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turns a failure to write into a WorkError."""
    try:
        yield
    except OSError as error:
        raise WorkError(f"cannot write into {folder}: {error.strerror or error}") from error


def steps_done(rows: Sequence[Mapping[str, Any]]) -> int:
    """The optimizer steps of all train steps in a report's rows."""
    return sum(row["epochs"][-1]["steps"] for row in rows if row["action"] == "train" and row["epochs"])


class Curves(Listener):
    """Writes each epoch's losses, metrics, learning rate and images a second, and in between the mean loss so far.

    `first` are the optimizer steps before this train step. A resumed one discards what was written after the state that
    it resumes from.
    """

    def __init__(self, folder: Path, *, first: int = 0, resumed: bool = False) -> None:
        self.folder, self.first, self.resumed = folder, first, resumed
        self.writer: Any = None

    def step_started(self, trainer: Trainer) -> None:
        later = self.first + trainer.progress.steps + 1
        self.writer = open_writer(self.folder, purge_step=later if self.resumed else None)

    def progressed(self, trainer: Trainer, loss: float) -> None:
        self._write({"train/running_loss": loss}, trainer.progress.steps)

    def epoch_ended(self, trainer: Trainer, record: dict[str, Any]) -> None:
        values = {f"train/{name}": record[name] for name in ("loss", "lr", "images_per_second")}
        values |= {f"validation/{name}": value for name, value in record["validation"].items()}
        self._write(values, record["steps"])

    def step_ended(self, trainer: Trainer) -> None:
        with explained(self.folder):
            self.writer.close()

    def _write(self, values: Mapping[str, float], steps: int) -> None:
        with explained(self.folder):
            for tag, value in values.items():
                self.writer.add_scalar(tag, value, self.first + steps)
