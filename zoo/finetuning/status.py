"""What a watcher of a run polls: `status.json`, and `metrics.csv` as it grows.

Both are replaced atomically, so that whoever reads them finds a complete file. Neither may end a run: where one cannot
be written, that is said once, and the run goes on.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError, TerminatedError, ZooError
from zoo.finetuning.tables import write_metrics_table
from zoo.training.callbacks import Listener
from zoo.training.evaluate import finite
from zoo.training.folder import METRICS, STATUS
from zoo.training.holder import lives
from zoo.training.signals import ENDING
from zoo.training.state import write_json

if TYPE_CHECKING:
    from zoo.finetuning.run import ActiveRun
    from zoo.training.trainer import Trainer

FORMAT = 1
BEAT_SECONDS = 2.0  # between two heartbeats at least: a file system may be slow
RUNNING, DONE, INTERRUPTED, FAILED = "running", "done", "interrupted", "failed"
KILLED = "killed"  # never written: what a reader makes of a run that says `running` and is not there


class Status(Listener):
    """Writes both files of a run; `ended` has the last word.

    `heartbeat` is when the run last said something: every two seconds while it trains, not while an epoch is measured
    or features are computed. Whether a process that is silent is there still, `pid` and `host` tell.
    """

    def __init__(self, run: ActiveRun) -> None:
        self.run, self.said, self.beat = run, False, 0.0
        self.document: dict[str, Any] = {
            "format": FORMAT,
            "state": RUNNING,
            "why": None,
            "name": run.recipe.name,
            "steps": len(run.recipe.steps),
            "started": now(),
            "heartbeat": None,
            "ended": None,
            "pid": os.getpid(),
            "host": platform.node(),
        }

    def started(self) -> None:
        self._write_status(resumed=self.run.saved is not None)

    def step_started(self, trainer: Trainer) -> None:
        self._write_status(**place(trainer))

    def progressed(self, trainer: Trainer, loss: float) -> None:
        if time.monotonic() - self.beat > BEAT_SECONDS:
            self._write_status(**place(trainer), loss=loss)

    def epoch_ended(self, trainer: Trainer, record: dict[str, Any]) -> None:
        row = {"step": place(trainer)["step"], "epochs": trainer.progress.history, "freeze_proof": None}
        with self._harmless():
            write_metrics_table(self.run.folder / METRICS, [*self.run.stages, row])
        self._write_status(**place(trainer), loss=record["loss"], validation=record["validation"])

    def note(self, text: str) -> None:
        """Whoever remarks something is alive."""
        if time.monotonic() - self.beat > BEAT_SECONDS:
            self._write_status()

    def ended(self, state: str, why: str | None = None) -> None:
        """The run is over: `done`, `interrupted` or `failed`, and why; said though a signal comes meanwhile."""
        try:
            self._ended(state, why)
        except KeyboardInterrupt:
            self._ended(state, why)
            raise

    def _ended(self, state: str, why: str | None) -> None:
        with self._harmless():
            write_metrics_table(self.run.folder / METRICS, self.run.stages)
        self._write_status(state=state, why=why, ended=now())

    def _write_status(self, **values: Any) -> None:
        self.document |= values | {"heartbeat": now()}
        self.beat = time.monotonic()
        with self._harmless():
            write_json(self.run.folder / STATUS, finite(self.document), sync=False)

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ZooError) as error:
            if not self.said:
                self.said = True
                self.run.listener.note(f"warning: a watcher of this run reads old numbers: {error}")


def place(trainer: Trainer) -> dict[str, Any]:
    """Where in the recipe a run is, in numbers from 1: the step, its epoch, its optimizer step."""
    return {
        "step": trainer.job.options.place.index + 1,
        "label": trainer.job.label,
        "epoch": min(trainer.progress.epoch + 1, trainer.epochs),
        "epochs": trainer.epochs,
        "optimizer_step": trainer.progress.steps,
        "optimizer_steps": trainer.steps,
        "images_per_second": trainer.rate,
    }


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def watched(status: Status | None) -> Iterator[None]:
    """The block is the run: `status` says how it ended."""
    if status is None:
        yield
        return
    ENDING.leaving = lambda why, number: status.ended(
        FAILED if why else INTERRUPTED, why or TerminatedError(number).signal
    )
    try:
        status.started()
        yield
    except BaseException as error:
        status.ended(*how_ended(error))
        raise
    finally:
        ENDING.leaving = None
    status.ended(DONE)


def how_ended(error: BaseException) -> tuple[str, str]:
    """The state that `error` ended a run in, and why."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, error.signal if isinstance(error, TerminatedError) else "Ctrl-C"
    return FAILED, str(error) or type(error).__name__


def read_status(folder: Path) -> dict[str, Any] | None:
    """A run's `status.json`; None where there is none. Raises InputError where it cannot be read.

    Of a run that says `running` on this machine, and whose process is gone, the state is `killed`.
    """
    path = folder / STATUS
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("state"), str):
        raise InputError(f"{path} is not the status of a run")
    if document["state"] == RUNNING and document.get("host") == platform.node() and not lives(document.get("pid")):
        document |= {
            "state": KILLED,
            "why": "its process is gone: killed by the system, or the machine was switched off",
        }
    return document
