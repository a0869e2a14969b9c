"""Learning-rate schedules after a linear warm-up: zoo's own by a short name, torch's classes by theirs.

A short name (`cosine`) is fitted to the training: its length is worked out. A class (`CosineAnnealingLR`) has torch's
own defaults and units: it moves once an epoch, as in torch's examples, `OneCycleLR` and `CyclicLR` with every
optimizer step. Lengths that a recipe gives count what the schedule moves by.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from zoo.errors import InputError
from zoo.recipe.catalogue import EVERY_STEP, component_of, find
from zoo.training.optimizers import named

if TYPE_CHECKING:
    from zoo.steps.train import Train


METHODS = ("step", "state_dict", "load_state_dict")


class Schedule:
    """A torch scheduler after a linear warm-up; each group keeps its share of the learning rate throughout.

    `lr` of every group is set for the coming step as soon as the object is made, and again by `step` and `end_epoch`.
    """

    def __init__(
        self, optimizer: Optimizer, options: Train, *, steps: int, epochs: int, higher_is_better: bool
    ) -> None:
        """`steps` are all optimizer steps of the train step. Raises InputError for arguments that do not fit."""
        self.optimizer = optimizer
        self.warmup = warmup_steps(options.warmup, steps)
        self.taken = 0
        self.inner: Any = None
        self.every_step = True
        if options.scheduler is not None:
            name, arguments = named(options.scheduler)
            self.every_step = _moves_every_step(name)
            span = max(steps - self.warmup, 1)
            self.inner = _make(optimizer, name, arguments, options.lr, span, epochs, higher_is_better)
        self.start = [group["lr"] for group in optimizer.param_groups]  # where the scheduler wants to begin
        self._warm()

    def step(self) -> None:
        """Call after each optimizer step."""
        self.taken += 1
        if self.taken < self.warmup:
            self._warm()
        elif self.taken == self.warmup:
            self._set(self.start)
        elif self.inner is not None and self.every_step:
            self.inner.step()

    def end_epoch(self, value: float) -> None:
        """Call after each epoch; `value` is what a plateau scheduler watches."""
        if self.inner is None or self.every_step or self.taken < self.warmup:
            return
        if isinstance(self.inner, ReduceLROnPlateau):
            self.inner.step(value)
        else:
            self.inner.step()

    def replay(self, epochs: Sequence[tuple[int, float | None]]) -> None:
        """Replays `epochs` (the optimizer steps done at the end of each, and its value): sets the rates that follow."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            for steps, value in epochs:
                while self.taken < steps:
                    self.step()
                if value is not None:  # a metric that was not measured then cannot be watched
                    self.end_epoch(value)

    def state_dict(self) -> dict[str, Any]:
        inner = None if self.inner is None else self.inner.state_dict()
        return {"taken": self.taken, "start": self.start, "inner": inner}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Also call the optimizer's own, which has the current learning rates."""
        self.taken, self.start = state["taken"], state["start"]
        if self.inner is not None:
            self.inner.load_state_dict(state["inner"])

    def _warm(self) -> None:
        if self.taken < self.warmup:
            self._set([lr * (self.taken + 1) / (self.warmup + 1) for lr in self.start])

    def _set(self, rates: list[float]) -> None:
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = lr


def warmup_steps(warmup: float, steps: int) -> int:
    """A share of all steps below 1, a number of steps from 1 on."""
    return min(round(warmup * steps) if warmup < 1 else int(warmup), steps)


def _moves_every_step(name: str) -> bool:
    if component_of("schedulers", name) is None:
        return name in EVERY_STEP
    factory = find("schedulers", name)
    assert factory is not None
    return bool(getattr(factory, "every_step", "total_steps" in inspect.signature(factory).parameters))


def _make(
    optimizer: Optimizer, name: str, arguments: dict[str, Any], lr: float, steps: int, epochs: int, higher: bool
) -> Any:
    factory = find("schedulers", name)
    assert factory is not None
    known = inspect.signature(factory).parameters
    supplied: dict[str, dict[str, Any]] = {
        "cosine": {"T_max": steps},
        "step": {"step_size": max(epochs // 3, 1)},
        "constant": {"factor": 1.0},
        "linear": {"start_factor": 1.0, "end_factor": 0.0, "total_iters": steps},
        "polynomial": {"total_iters": steps},
        "CosineAnnealingLR": {"T_max": epochs},
    }
    values = supplied.get(name, {})
    own = component_of("schedulers", name) is not None
    if own:
        values = {key: value for key, value in (("total_steps", steps), ("total_epochs", epochs)) if key in known}
    elif "total_steps" in known:  # a length in epochs, given beside steps_per_epoch, is as good
        values = {"max_lr": lr} | ({} if "epochs" in arguments else {"total_steps": steps})
    if factory is ReduceLROnPlateau:
        values = {"mode": "max" if higher else "min"}
    merged = values | arguments
    for key in ("max_lr", "base_lr"):  # given for the recipe's lr; each group gets its share
        if isinstance(merged.get(key), int | float):
            merged[key] = [merged[key] * group["lr"] / lr for group in optimizer.param_groups]
    try:
        made = factory(optimizer, **merged)
        if lacking := [word for word in METHODS if not callable(getattr(made, word, None))]:
            raise TypeError(f"it gives {type(made).__name__}, which has no {', '.join(lacking)}")
        return made
    except Exception as error:
        if not own and not isinstance(error, TypeError | ValueError):
            raise
        hint = f"it takes {', '.join(key for key in known if key not in ('optimizer', 'last_epoch'))}"
        raise InputError(f"scheduler {name}: {error}", suggestion=hint) from error
