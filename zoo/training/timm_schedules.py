"""timm's schedulers (timm.scheduler), which move learning rates as torch's do once they are wrapped here.

timm counts by itself: with `t_in_epochs: true`, its default, a scheduler is asked after each epoch, otherwise after
each optimizer step, and `t_initial` is a number of those. Source: timm/scheduler/scheduler.py, and timm's train.py,
which calls `step(epoch + 1, metric)` after an epoch and `step_update(updates)` after an update.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch.optim import Optimizer


class TimmSchedule:
    """A scheduler of timm with `step()`, `state_dict()` and `load_state_dict()` as torch's have them.

    timm's own state of a plateau leaves out how long it has waited (timm/scheduler/plateau_lr.py): here all is in it.
    """

    def __init__(self, optimizer: Optimizer, factory: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
        """Raises ValueError for values that the scheduler does not take."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # of the plateau, whose state timm does not save entire
                self.inner = factory(optimizer, **arguments)
        except AssertionError as error:  # timm's way to check a value
            given = ", ".join(f"{key}: {value}" for key, value in arguments.items())
            raise ValueError(f"it does not take {given}") from error
        self.moved = 0

    @property
    def watches(self) -> bool:
        """Whether it goes by a metric."""
        return hasattr(self.inner, "lr_scheduler")

    def step(self, value: float | None = None) -> None:
        """After an epoch, or an optimizer step where it counts those; `value` is what a plateau watches."""
        self.moved += 1
        if self.inner.t_in_epochs:
            self.inner.step(self.moved, value)
        else:
            self.inner.step_update(self.moved)

    def state_dict(self) -> dict[str, Any]:
        own = {key: value for key, value in vars(self.inner).items() if key not in ("optimizer", "lr_scheduler")}
        plateau = self.inner.lr_scheduler.state_dict() if self.watches else None
        return {"moved": self.moved, "own": own, "plateau": plateau}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.moved = state["moved"]
        vars(self.inner).update(state["own"])
        if self.watches:
            self.inner.lr_scheduler.load_state_dict(state["plateau"])


def moves_every_step(arguments: Mapping[str, Any]) -> bool:
    return not arguments.get("t_in_epochs", True)


def lengths(known: Mapping[str, Any], arguments: Mapping[str, Any], length: int) -> dict[str, Any]:
    """What the length of the training says of timm's arguments: `t_initial`, so that all cycles end with it."""
    if "t_initial" not in known:
        return {}
    cycles, growth = arguments.get("cycle_limit", 1), arguments.get("cycle_mul", 1.0)
    parts = cycles if growth == 1 else (growth**cycles - 1) / (growth - 1)
    return {"t_initial": max(math.ceil(length / max(parts, 1)), 1)}


def covered(arguments: Mapping[str, Any]) -> int | None:
    """The length of all cycles that `arguments` ask for; None where they leave it open."""
    initial, cycles, growth = (arguments.get(key, other) for key, other in _CYCLES.items())
    if not isinstance(initial, int):
        return None
    return int(initial * cycles if growth == 1 else initial * (growth**cycles - 1) / (growth - 1))


_CYCLES = {"t_initial": None, "cycle_limit": 1, "cycle_mul": 1.0}
