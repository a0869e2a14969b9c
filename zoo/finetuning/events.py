"""A run as JSON lines, for a program that follows it: `zoo finetune --events`, described in docs/run-folder.md."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from zoo.finetuning.status import DONE, how_ended, now, place
from zoo.training.callbacks import Listener, Stream
from zoo.training.evaluate import finite

if TYPE_CHECKING:
    from zoo.training.trainer import Trainer


class Events(Listener):
    """Writes each event as one line; a reader that goes away ends no run."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self.stream = Stream(stream or sys.stdout)

    @contextmanager
    def of_run(self, recipe: str, seeds: int | None) -> Iterator[dict[str, Any]]:
        """`started` in front of the block and `finished` behind it, with what the block puts into the dictionary."""
        self._write("started", recipe=recipe, seeds=seeds)
        ended: dict[str, Any] = {}
        try:
            yield ended
        except BaseException as error:
            state, why = how_ended(error)
            self._write("finished", state=state, why=why)
            raise
        self._write("finished", state=DONE, why=None, **ended)

    def step_started(self, trainer: Trainer) -> None:
        self._write("step", **_where(trainer), loss=None)

    def progressed(self, trainer: Trainer, loss: float) -> None:
        self._write("step", **_where(trainer), loss=loss)

    def epoch_ended(self, trainer: Trainer, record: dict[str, Any]) -> None:
        keys = ("epoch", "loss", "validation", "lr", "lr_by_group", "images_per_second", "seconds", "peak_memory")
        values = _where(trainer) | {key: record[key] for key in keys}
        self._write("epoch", **values, best=trainer.progress.best)

    def note(self, text: str) -> None:
        self._write("note", text=text)

    def _write(self, event: str, **values: Any) -> None:
        self.stream.write(json.dumps(finite({"event": event, "time": now(), **values})) + "\n")
        self.stream.flush()


def _where(trainer: Trainer) -> dict[str, Any]:
    return {"folder": str(trainer.state.folder.parent), **place(trainer)}
