"""Which changes of a recipe `--resume` accepts: those that do not alter what is already done.

What may change depends on its place, counted from the train step that the run was at:

- a later step: anything; steps may be appended, removed and reordered;
- the step itself while none of its epochs is complete: anything but `optimizer_state`, it starts again;
- the step itself after an epoch: more `epochs` or `max_steps`, and the options in `DURING` (`class_weights` not where
  the validation loss, which they change, compares epochs). It continues from the
  end of its last epoch: the optimizer's moments are kept, and the learning rate is what the new values give by now;
- `device`, `name`, and how data is read (`ANYWHERE`): always.

Everything else has already been used: earlier steps, the model, the data, the seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoo.errors import Problem
from zoo.recipe.validate import shown

ANYWHERE = ("device", "name", "data.workers", "data.cache")
DURING = (
    "lr", "weight_decay", "weight_decay_on", "scheduler", "warmup", "clip_grad_norm", "label_smoothing",
    "auxiliary_loss", "class_weights", "metrics", "keep", "early_stopping", "precision", "memory_layout", "callbacks",
    "alpha", "time_budget",
)  # fmt: skip
UPWARDS = ("epochs", "max_steps")
FIXED = ("optimizer_state",)  # what it began with, the state does not have again otherwise
HARMLESS = ("trackers", "compile", "gradient_checkpointing")  # nothing in the resume state depends on these
OPEN = (None, "auto", "found", "measure")  # what stands where a run is to choose
PLANNED = "planned"
MISSING = "not set"
Recipe = Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """A value that differs: `place` is its path in the recipe, `step` the index of the step it belongs to."""

    place: tuple[str | int, ...]
    before: Any
    now: Any
    label: str
    step: int | None = None

    def __str__(self) -> str:
        return f"{self.label} {_shown(self.before)} -> {_shown(self.now)}"

    @property
    def option(self) -> str:
        return str(self.place[3]) if len(self.place) > 3 else ""

    @property
    def key(self) -> str:
        """As `--set` takes it."""
        return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.place).lstrip(".")

    def problem(self) -> Problem:
        was, now = _shown(self.before), _shown(self.now)
        cure = (
            f"change it back: remove {self.key}" if self.before is None else f"change it back: --set {self.key}={was}"
        )
        return Problem(f"{self.label} was {was} when this run began and is {now}", suggestion=cure)


def changes(before: Recipe, now: Recipe) -> list[Change]:
    """The differences between two resolved recipes, in their order, without those that are always allowed."""
    found: list[Change] = []
    for key in dict.fromkeys((*before, *now)):
        if key == "steps":
            found += _steps(before[key], now[key])
        else:
            found += _values((key,), before.get(key), now.get(key), key)
    return [change for change in found if ".".join(map(str, change.place)) not in ANYWHERE]


def _steps(before: list[Any], now: list[Any]) -> list[Change]:
    found = []
    for index in range(max(len(before), len(now))):
        one, other = (steps[index] if index < len(steps) else None for steps in (before, now))
        if one is None or other is None or list(one) != list(other):
            found.append(Change(("steps", index), one, other, f"step {index + 1}", index))
            continue
        action = next(iter(one))
        label, given, taken = _label(now, index), one[action], other[action]
        for option in dict.fromkeys((*given, *taken)):
            if option == PLANNED:  # what is planned stands in the state
                continue
            if given.get(option) != taken.get(option):
                place = ("steps", index, action, option)
                found.append(Change(place, given.get(option), taken.get(option), f"{label}: {option}", index))
    return found


def _label(steps: list[Any], index: int) -> str:
    """`train 2` of several train steps; another step by its place."""
    action = next(iter(steps[index]))
    alike = [number for number, step in enumerate(steps) if action in step]
    return action if len(alike) == 1 else f"{action} {alike.index(index) + 1}"


def _values(place: tuple[str, ...], before: Any, now: Any, label: str) -> list[Change]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = dict.fromkeys((*before, *now))
        inner = [_values((*place, key), before.get(key), now.get(key), f"{label}.{key}") for key in keys]
        return [change for changes in inner for change in changes]
    return [Change(place, before, now, label)] if before != now else []


def without_pins(found: list[Change], pins: Mapping[str, Mapping[str, Any]]) -> list[Change]:
    """The changes but for those that write out what a run had chosen for an option that was left open: `pins` are these
    choices by the step's index, and under `data` the numbers that were measured, as in the recipe that a run leaves."""

    def is_pin(change: Change) -> bool:
        measured = change.before == "measure" and change.place[0] == "data" and len(change.place) == 2
        pinned = pins.get("data", {}).get(str(change.place[1])) if measured else None
        chosen = pins.get(str(change.step), {}).get(change.option) if pinned is None else pinned
        return chosen is not None and change.before in OPEN and change.now == chosen

    return [change for change in found if not is_pin(change)]


def refused(found: list[Change], step: int, progress: Mapping[str, Any], options: Mapping[str, Any]) -> list[Change]:
    """The changes that a run at train step number `step`, which had these `options`, cannot take.

    `progress` is that step's, at the end of its last complete epoch.
    """
    own = [change for change in found if change.step == step]
    longer = [change for change in own if change.option in UPWARDS and _upwards(change)]
    over = progress["epoch"] > 0 and _over(progress, options) and not longer

    def taken(change: Change) -> bool:
        if change.step is None or change.step < step:
            return False
        if change.step > step or change.option in HARMLESS or change in longer:
            return True
        if change.option in FIXED or (change.option == "class_weights" and progress["epoch"] and _by_loss(options)):
            return False
        return len(change.place) > 3 and (progress["epoch"] == 0 or (change.option in DURING and not over))

    return [change for change in found if not taken(change)]


def _by_loss(options: Mapping[str, Any]) -> bool:
    """Whether epochs are compared by their validation loss, which other class weights make another number."""
    rules = (options.get("keep"), options.get("early_stopping"))
    return any("loss" in rule.values() for rule in rules if isinstance(rule, Mapping))


def _upwards(change: Change) -> bool:
    """Whether it became more; where it is not set, the other of the two decides."""
    if change.now is None or change.before is None:
        return change.now is None
    return isinstance(change.now, int) and change.now > change.before


def _over(progress: Mapping[str, Any], options: Mapping[str, Any]) -> bool:
    """Whether a step has done all its epochs or optimizer steps."""
    epochs, steps = options.get("epochs"), options.get("max_steps")
    return bool((epochs and progress["epoch"] >= epochs) or (steps and progress["steps"] >= steps))


def _shown(value: Any) -> str:
    return MISSING if value is None else shown(value)
