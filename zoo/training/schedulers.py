"""Learning-rate schedules after a linear warm-up: zoo's own by a short name, torch's and timm's classes by theirs.

A short name (`cosine`) is fitted to the training: its length is worked out. A class (`CosineAnnealingLR`) has torch's
own defaults and units: it moves once an epoch, as in torch's examples, `OneCycleLR` and `CyclicLR` with every
optimizer step. One of timm's (`CosineLRScheduler`) moves once an epoch, or with `t_in_epochs: false` every step, and
the warm-up in front of it is zoo's. Lengths that a recipe gives count what the schedule moves by.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from zoo.errors import InputError
from zoo.lint import Trap
from zoo.recipe.catalogue import EVERY_STEP, PLATEAUS, SCHEDULERS, component_of, find, is_timm, supplied
from zoo.registry import Component
from zoo.training import timm_schedules
from zoo.training.components import blamed
from zoo.training.optimizers import named
from zoo.training.timm_schedules import TimmSchedule

if TYPE_CHECKING:
    from zoo.steps.train import Train


MOVED = ("lr", "betas", "momentum")  # what schedules change in an optimizer's groups
METHODS = ("step", "state_dict", "load_state_dict")


class Schedule:
    """A torch scheduler after a linear warm-up; each group keeps its share of the learning rate throughout.

    `lr` of every group is set for the coming step as soon as the object is made, and again by `step` and `end_epoch`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        options: Train,
        *,
        steps: int,
        epochs: int,
        higher_is_better: bool,
        per_epoch: int | None = None,
    ) -> None:
        """`steps` are all optimizer steps of the train step, of which a complete epoch has `per_epoch`. Raises
        InputError for arguments that do not fit."""
        self.optimizer, self.options, self.higher_is_better = optimizer, options, higher_is_better
        self.per_epoch = per_epoch
        self._given = [{key: group[key] for key in MOVED if key in group} for group in optimizer.param_groups]
        self.warmup = warmup_steps(options.warmup, steps)
        self.taken = 0
        self.inner: Any = None
        self._component: Component | None = None
        self.every_step = True
        if options.scheduler is not None:
            name, arguments = named(options.scheduler)
            self._component = component_of("schedulers", name)
            self.every_step = _moves_every_step(name, arguments)
            left = behind_warmup(self.warmup, steps, epochs, per_epoch)
            self.inner = _make(optimizer, name, arguments, options.rate, *left, higher_is_better)
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
            with blamed(self._component):
                self.inner.step()

    def end_epoch(self, value: float) -> None:
        """Call after each epoch; `value` is what a plateau scheduler watches."""
        if self.inner is None or self.every_step or self.taken <= self.warmup:
            return  # an epoch that was warm-up to its last step is none of the schedule's
        with blamed(self._component):
            if isinstance(self.inner, ReduceLROnPlateau | TimmSchedule):
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

    def over(self, *, steps: int, epochs: int) -> Schedule:
        """The same schedule from its beginning, over so many optimizer steps and epochs; this one is over."""
        for group, given in zip(self.optimizer.param_groups, self._given, strict=True):
            group.pop("initial_lr", None)  # a torch scheduler takes it for where another one began
            group.update(given)
        return Schedule(
            self.optimizer,
            self.options,
            steps=steps,
            epochs=epochs,
            higher_is_better=self.higher_is_better,
            per_epoch=self.per_epoch,
        )

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


def training_length(options: Train, per_epoch: int) -> tuple[int, int]:
    """Epochs and optimizer steps of a train step, of whose steps an epoch has `per_epoch`."""
    epochs = options.epochs or math.ceil((options.max_steps or 1) / per_epoch)
    return epochs, min(options.max_steps or epochs * per_epoch, epochs * per_epoch)


def warmup_steps(warmup: float, steps: int) -> int:
    """A share of all steps below 1, a number of steps from 1 on: of a longer one, training sees the beginning."""
    return round(warmup * steps) if warmup < 1 else int(warmup)


def behind_warmup(warmup: int, steps: int, epochs: int, per_epoch: int | None = None) -> tuple[int, int]:
    """The optimizer steps and the epochs that a schedule has behind the warm-up, at least 1 each; the epoch in which
    the warm-up ends counts, unless that is its last step."""
    per_epoch = per_epoch or math.ceil(steps / epochs)
    return max(steps - warmup, 1), max(epochs - warmup // per_epoch, 1)


def _moves_every_step(name: str, arguments: dict[str, Any]) -> bool:
    factory = find("schedulers", name)
    assert factory is not None
    if is_timm(factory):
        return timm_schedules.moves_every_step(arguments)
    if component_of("schedulers", name) is None:
        return name in EVERY_STEP
    return bool(getattr(factory, "every_step", "total_steps" in inspect.signature(factory).parameters))


# the argument that says how long a schedule is, beside torch's default, and what comes of one that ends before training
ENDS = {
    "CosineAnnealingLR": ("T_max", None, "rises again"),
    "PolynomialLR": ("total_iters", 5, "is 0"),
    "LinearLR": ("total_iters", 5, "is 0"),  # where it goes to 0 at all
}
# what has to be over before a schedule lowers the rate for the first time
FIRST = {
    "StepLR": ("step_size", None),
    "MultiStepLR": ("milestones", None),
    "ReduceLROnPlateau": ("patience", 10),
    "StepLRScheduler": ("decay_t", None),
    "MultiStepLRScheduler": ("decay_t", None),
    "PlateauLRScheduler": ("patience_t", 10),
}


def schedule_traps(
    options: Train,
    *,
    steps: int,
    epochs: int,
    watched: str,
    higher_is_better: bool | None,
    per_epoch: int | None = None,
) -> Iterator[Trap]:
    """What schedule and warm-up would do to a training of so many steps and epochs that nobody asks for.

    `watched` is the metric that a plateau scheduler looks at; `higher_is_better` is None where it is not known.
    """
    warmup = warmup_steps(options.warmup, steps)
    if options.warmup and warmup >= steps:
        long = f"{options.warmup:g} steps" if options.warmup >= 1 else f"{options.warmup:g} of all steps"
        message = (
            f"train: a warm-up of {long}, and training has {steps}: the learning rate never gets to {options.rate:g}"
        )
        yield Trap("scheduler", ("warmup",), message, "write a share of all steps, for instance warmup: 0.1")
    if options.scheduler is None:
        return
    name, arguments = named(options.scheduler)
    kind = SCHEDULERS.get(name, name)
    left = behind_warmup(warmup, steps, epochs, per_epoch)
    length, unit = (left[0], "optimizer steps") if _moves_every_step(name, arguments) else (left[1], "epochs")
    if kind in PLATEAUS and higher_is_better is not None:
        yield from _wrong_mode(name, arguments, watched, higher_is_better)
    elif kind == "OneCycleLR":
        yield from _other_cycle(name, arguments, length)
    yield from _too_short(name, kind, arguments, length, unit)
    yield from _few_cycles(name, arguments, length, unit)
    yield from _never_lowers(name, kind, arguments, length, unit)


def _wrong_mode(name: str, arguments: dict[str, Any], watched: str, higher_is_better: bool) -> Iterator[Trap]:
    right = "max" if higher_is_better else "min"
    if arguments.get("mode", right) != right:
        better = "higher" if higher_is_better else "lower"
        message = (
            f"scheduler {name}: mode is {arguments['mode']}, but {watched}, which it watches, is better when {better}"
        )
        yield Trap("scheduler", ("scheduler",), message, f"write mode: {right}, or leave it out", fatal=True)


def _other_cycle(name: str, arguments: dict[str, Any], length: int) -> Iterator[Trap]:
    """One cycle that is shorter than the training, in which torch fails, or longer, so that it is cut off."""
    given = arguments.get("total_steps")
    if given is None and isinstance(arguments.get("epochs"), int) and isinstance(arguments.get("steps_per_epoch"), int):
        given = arguments["epochs"] * arguments["steps_per_epoch"]
    if not isinstance(given, int) or given == length:
        return
    ends = f"fails at step {given + 1}" if given < length else "ends in the middle of the cycle"
    message = f"scheduler {name}: total_steps is {given}, and training takes {length} behind the warm-up: it {ends}"
    yield Trap("scheduler", ("scheduler",), message, "leave it out: zoo works it out", fatal=given < length)


def _too_short(name: str, kind: str, arguments: dict[str, Any], length: int, unit: str) -> Iterator[Trap]:
    key, default, then = ENDS.get(kind, ("", None, ""))
    given = arguments.get(key, None if name in SCHEDULERS else default)
    to_zero = kind != "LinearLR" or arguments.get("end_factor", 0 if name in SCHEDULERS else 1) == 0
    if isinstance(given, int) and given < length and to_zero:
        message = f"scheduler {name}: {key} is {given}, and training has {length} {unit}: the rate {then} after that"
        yield Trap("scheduler", ("scheduler",), message, f"leave {key} out, or write {length}")


def _few_cycles(name: str, arguments: dict[str, Any], length: int, unit: str) -> Iterator[Trap]:
    """Cycles of timm's that are over before training is: the rate then stays at its lowest."""
    covered = timm_schedules.covered(arguments)
    if covered is None or covered >= length:
        return
    message = f"scheduler {name}: it takes {covered} {unit}, and training has {length}: the rate is lr_min after that"
    cycles = math.ceil(length / arguments["t_initial"])
    again = name != "WSDLRScheduler" and "cycle_mul" not in arguments
    hint = "leave t_initial out" + (f", or write cycle_limit: {cycles} for restarts" if again else "")
    yield Trap("scheduler", ("scheduler",), message, hint)


def _never_lowers(name: str, kind: str, arguments: dict[str, Any], length: int, unit: str) -> Iterator[Trap]:
    key, default = FIRST.get(kind, ("", None))
    given = arguments.get(key, default)
    first = min(given, default=None) if isinstance(given, list) else given
    if kind in ("StepLRScheduler", "MultiStepLRScheduler") and arguments.get("decay_rate", 1.0) == 1:
        message = f"scheduler {name}: decay_rate is 1 unless it is given: the rate never falls"
        yield Trap("scheduler", ("scheduler",), message, "write decay_rate: 0.1, for instance")
    elif isinstance(first, int) and first >= length - (kind in PLATEAUS):
        said = given if key in arguments else f"{given} by default"
        message = f"scheduler {name}: {key} is {said}, and training has {length} {unit}: the rate never falls"
        yield Trap(
            "scheduler", ("scheduler",), message, f"give a smaller {key}, or scheduler: null for a constant rate"
        )


def _make(
    optimizer: Optimizer, name: str, arguments: dict[str, Any], lr: float, steps: int, epochs: int, higher: bool
) -> Any:
    factory = find("schedulers", name)
    assert factory is not None
    known = inspect.signature(factory).parameters
    fitted: dict[str, dict[str, Any]] = {
        "cosine": {"T_max": steps},
        "step": {"step_size": max(epochs // 3, 1)},
        "constant": {"factor": 1.0},
        "linear": {"start_factor": 1.0, "end_factor": 0.0, "total_iters": steps},
        "polynomial": {"total_iters": steps},
        "CosineAnnealingLR": {"T_max": epochs},
    }
    values = fitted.get(name, {})
    own = component_of("schedulers", name) is not None
    if own:
        values = {key: value for key, value in (("total_steps", steps), ("total_epochs", epochs)) if key in known}
    elif "total_steps" in known:  # a length in epochs, given beside steps_per_epoch, is as good
        values = {"max_lr": lr} | ({} if "epochs" in arguments else {"total_steps": steps})
    if name in PLATEAUS or SCHEDULERS.get(name) in PLATEAUS:
        values = {"mode": "max" if higher else "min"}
    elif is_timm(factory):
        values = timm_schedules.lengths(known, arguments, steps if _moves_every_step(name, arguments) else epochs)
    merged = values | arguments
    for key in ("max_lr", "base_lr"):  # given for the recipe's lr; each group gets its share
        if isinstance(merged.get(key), int | float):
            merged[key] = [merged[key] * group["lr"] / lr for group in optimizer.param_groups]
    try:
        made = TimmSchedule(optimizer, factory, merged) if is_timm(factory) else factory(optimizer, **merged)
        if lacking := [word for word in METHODS if not callable(getattr(made, word, None))]:
            raise TypeError(f"it gives {type(made).__name__}, which has no {', '.join(lacking)}")
        return made
    except Exception as error:
        if not own and not isinstance(error, TypeError | ValueError):
            raise
        first, by_name = supplied("schedulers", factory)
        hint = f"it takes {', '.join(key for key in list(known)[first:] if key not in by_name)}"
        raise InputError(f"scheduler {name}: {error}", suggestion=hint) from error
