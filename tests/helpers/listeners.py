"""What tests give a run as `progress`: one keeps what is said, one ends the run as if its process were killed."""

from __future__ import annotations

from typing import Any

from zoo.training.callbacks import Listener


class Killed(BaseException):
    """What nothing in zoo catches."""


class Notes(Listener):
    """Keeps what a run says."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class Killing(Notes):
    """Raises `error` in the optimizer step that follows `step` of them, or behind the epoch `epoch`, of the train step
    `stage`; epochs and train steps count from 1."""

    def __init__(
        self, step: int | None = None, *, stage: int = 1, epoch: int | None = None, error: BaseException | None = None
    ) -> None:
        super().__init__()
        self.step, self.stage, self.epoch, self.error = step, stage, epoch, error or Killed()
        self.begun = 0

    def step_started(self, trainer: Any) -> None:
        self.begun += 1
        if self.begun != self.stage:
            return
        step = trainer.schedule.step

        def killing() -> None:
            step()
            if trainer.progress.steps == self.step:
                raise self.error

        trainer.schedule.step = killing

    def epoch_ended(self, trainer: Any, record: dict[str, Any]) -> None:
        if self.begun == self.stage and record["epoch"] == self.epoch:
            raise self.error
