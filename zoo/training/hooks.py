"""The callbacks of a train step at work: called by the loop, blamed by name where they fail, resumed with it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from accelerate.utils import gather_object

from zoo.contracts import Callback, Training
from zoo.errors import InputError, WorkError, ZooError
from zoo.isolation import PluginError, guarded
from zoo.model.undisturbed import generators_kept
from zoo.recipe.options import Named
from zoo.registry import Component
from zoo.training.components import make, source_of
from zoo.training.state import pack

if TYPE_CHECKING:
    from zoo.training.trainer import Trainer


class Callbacks:
    """The callbacks of a train step, in the recipe's order.

    A hook that raises does not keep the others, nor the state of the epoch, from their work: the loop asks for the
    failure by `check` where the model is sound.
    """

    def __init__(self, values: Sequence[Named]) -> None:
        self.made: list[tuple[Component, Callback]] = [make("callbacks", value, Callback) for value in values]
        self.failure: WorkError | None = None
        self.training: Training | None = None
        self._states: dict[str, Any] = {}

    def begin(self, trainer: Trainer) -> None:
        """The loop begins, perhaps in the middle. What a hook draws at random here changes nothing behind it."""
        if not self.made:
            return
        self.training = Training(
            trainer.job.model,
            trainer.optimizer.optimizer,
            trainer.device,
            trainer.state.folder.parent,
            trainer.job.label,
            trainer.epochs,
            trainer.steps,
        )
        with generators_kept():
            self.call(trainer, "train_started")
        self.check()

    def lengthened(self, trainer: Trainer) -> None:
        """The training has become longer or shorter than it was when it began."""
        if self.training is not None:
            self.training.epochs, self.training.steps = trainer.epochs, trainer.steps

    def call(self, trainer: Trainer, hook: str, *values: Any) -> None:
        """Call a hook of each, with where training is."""
        training, progress = self.training, trainer.progress
        if training is None:
            return
        training.epoch, training.step, training.history = progress.epoch, progress.steps, progress.history
        for component, callback in self.made:
            try:
                guarded(functools.partial(getattr(callback, hook), training, *values))
            except PluginError as failure:
                self._blame(component, hook, failure)
        for note in training.notes:
            trainer.listener.note(note)
        training.notes.clear()

    def check(self) -> None:
        """Raises WorkError where a hook has failed."""
        if self.failure is not None:
            raise self.failure

    def stopped(self, processes: int) -> str:
        """Why training is to end behind this epoch, whichever process's callback says so; empty where it goes on."""
        own = self.training.stopped if self.training is not None else ""
        if processes == 1 or not self.made:
            return own
        return next(filter(None, gather_object([own])), "")

    def state_dict(self) -> dict[str, Any]:
        """What each has to know again, by its place and name; of one that cannot say, what it said last."""
        for key, (component, callback) in self._keys().items():
            try:
                state = guarded(callback.state_dict)
                pack(state, "state", {})
                self._states[key] = state
            except (PluginError, ZooError) as failure:
                self._blame(component, "state_dict", failure)
        return {key: state for key, state in self._states.items() if state}

    def load_state_dict(self, states: dict[str, Any]) -> None:
        """Raises WorkError where one does not take its state."""
        for key, (component, callback) in self._keys().items():
            if key not in states:
                continue
            try:
                guarded(functools.partial(callback.load_state_dict, states[key]))
            except PluginError as failure:
                self._blame(component, "load_state_dict", failure)
        self.check()

    def _keys(self) -> dict[str, tuple[Component, Callback]]:
        return {f"{place} {pair[0].name}": pair for place, pair in enumerate(self.made)}

    def _blame(self, component: Component, hook: str, failure: Exception) -> None:
        if self.failure is None:
            said = f"{source_of(component)} failed in {hook}: {failure}"
            self.failure = WorkError(said, suggestion="leave it out, and --resume goes on from the last complete epoch")


def check_callbacks(values: Sequence[Named]) -> None:
    """Raises InputError for callbacks that cannot be made, and for a state that cannot be saved."""
    callbacks = Callbacks(values)
    callbacks.state_dict()
    if callbacks.failure is not None:
        raise InputError(callbacks.failure.problems[0].message)
