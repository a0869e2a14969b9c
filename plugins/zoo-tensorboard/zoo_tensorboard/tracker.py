"""The curves of training in TensorBoard's event files, in `tensorboard/` in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.api import InputError, TrackedRun, Tracker

FOLDER = "tensorboard"  # in the run's folder
FLUSH_SECONDS = 10  # torch's two minutes are long for someone who watches a run


def require_tensorboard() -> Any:
    """torch's SummaryWriter. Raises InputError where the package `tensorboard` is missing or too old."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        hint = 'pip install "zoo-kit[tensorboard]"'
        raise InputError(f"tensorboard cannot be used: {error}", suggestion=hint) from error
    return SummaryWriter


def open_writer(folder: Path, *, purge_step: int | None = None) -> Any:
    """A SummaryWriter on a new file in `folder`; TensorBoard discards what older files contain from `purge_step` on."""
    return require_tensorboard()(str(folder), purge_step=purge_step, flush_secs=FLUSH_SECONDS)


class TensorBoard(Tracker):
    """Losses, metrics, learning rate and images a second, for `tensorboard --logdir RUN/tensorboard`."""

    files = (FOLDER,)

    def __init__(self) -> None:
        require_tensorboard()
        self.writer: Any = None

    def start(self, run: TrackedRun) -> None:
        """A resumed run discards what was written after the state that it resumes from."""
        self.writer = open_writer(run.folder / FOLDER, purge_step=run.step + 1 if run.resumed else None)

    def log(self, values: Mapping[str, float], step: int) -> None:
        for tag, value in values.items():
            self.writer.add_scalar(tag, value, step)

    def finish(self) -> None:
        if self.writer is not None:
            self.writer.close()
