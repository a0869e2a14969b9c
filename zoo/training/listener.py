"""What wants to know how training goes: the progress display, and whatever else draws or logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.training.loop import Trainer


class Listener:
    """Called in the main process only. Every method may be left as it is, which is to do nothing."""

    def stage_started(self, trainer: Trainer) -> None:
        """A train step begins; `trainer.job` has the model and the batches."""

    def looked(self, trainer: Trainer, loss: float) -> None:
        """Twice a second at most: the mean loss of the epoch so far."""

    def epoch_ended(self, trainer: Trainer, record: dict[str, Any]) -> None:
        """An epoch was trained and measured; `record` is its row of the report."""

    def stage_ended(self, trainer: Trainer) -> None:
        """The train step is over, or was interrupted."""

    def note(self, text: str) -> None:
        """A remark for the person."""


class Listeners(Listener):
    """Several listeners as one, told in turn."""

    def __init__(self, *listeners: Listener) -> None:
        self.listeners = listeners

    def stage_started(self, trainer: Trainer) -> None:
        for listener in self.listeners:
            listener.stage_started(trainer)

    def looked(self, trainer: Trainer, loss: float) -> None:
        for listener in self.listeners:
            listener.looked(trainer, loss)

    def epoch_ended(self, trainer: Trainer, record: dict[str, Any]) -> None:
        for listener in self.listeners:
            listener.epoch_ended(trainer, record)

    def stage_ended(self, trainer: Trainer) -> None:
        for listener in self.listeners:
            listener.stage_ended(trainer)

    def note(self, text: str) -> None:
        for listener in self.listeners:
            listener.note(text)
