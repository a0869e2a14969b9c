"""A train step that ends in time: its optimizer steps are planned from measured speed, and planned anew where that was
wrong.

A plan is a list of [optimizer step, steps in all] pairs. The first is made before training begins; a later one says
that from its step on the schedule's rates are those of a training as long as it says, as after `--resume` with other
`epochs`. The clock decides what is planned, and nothing else: the weights are a function of the recipe and the plan,
which is saved with the state and written into the run's recipe. So a resumed run continues its plan, and the recipe
that a run leaves repeats it, bit for bit.

The clock is looked at about once a second, more and more often towards the end, and before each of the last steps. The
plan stays as it is while the end that the speed so far foresees differs from the planned one by less than TOLERANCE of
all steps; where even the next step would be too late, training ends there. Of an epoch's last step the plan is made
behind all that ends the epoch: two plans from one step could not be told apart when they are repeated.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from accelerate.utils import broadcast_object_list

from zoo.recipe.options import seconds_of
from zoo.training import pace
from zoo.training.callbacks import clocked

if TYPE_CHECKING:
    from zoo.training.trainer import Trainer

TOLERANCE = 0.02  # of all steps: a cosine that ends so much early has fallen to a thousandth of its height
WORTH_SAYING = 0.1
LOOK_SECONDS = 1.0
LOOKS = 200  # at which a plan may be made anew, in all; those between them only see whether the time is over
WINDOW = 16  # looks over which the present speed is measured
ENOUGH = 10  # steps of training that say more than the trial before it


class Plan(Protocol):
    """What the loop asks after every optimizer step, and behind every epoch."""

    def look(self) -> None: ...

    def epoch_ended(self) -> None: ...

    def count(self) -> None:
        """The state is about to be saved."""


def plan_time(trainer: Trainer, share: float | None, began: float) -> None:
    """Give a trainer that is about to begin or to go on its plan, where it has one to make or to repeat.

    It may take its own `time_budget`, and its `share` of the seconds of the whole run, from `began` (on the clock) on,
    its preparation included; what an interrupted run has spent counts.
    """
    options, interrupted = trainer.job.options, trainer.progress.spent > 0
    own = seconds_of(options.time_budget) if options.time_budget and (interrupted or not options.planned) else None
    limits = [seconds for seconds in (own, share) if seconds is not None]
    if limits:
        trainer.plan = TimeBudget(trainer, min(limits), began)
    elif options.planned:
        trainer.plan = Repeated(trainer, options.planned)


class Repeated:
    """A plan that is given: carried out step by step, whatever the time."""

    def __init__(self, trainer: Trainer, planned: Sequence[tuple[int, int]]) -> None:
        self.trainer, self.planned = trainer, planned
        self.look()

    def look(self) -> None:
        if not self.trainer.epoch_ends:
            self.epoch_ended()

    def epoch_ended(self) -> None:
        known = self.trainer.progress.plan
        for step, total in self.planned[len(known) :]:
            if step <= self.trainer.progress.steps:
                self.trainer.take(step, total)

    def count(self) -> None:
        """No time is counted."""


class TimeBudget:
    """Plans the optimizer steps of a train step that may take so many seconds, and looks at the clock meanwhile."""

    def __init__(self, trainer: Trainer, seconds: float, began: float) -> None:
        self.trainer, self.seconds = trainer, seconds
        self.per_epoch = math.ceil(len(trainer.job.train) / trainer.job.options.accumulate)
        options, progress = trainer.job.options, trainer.progress
        limited = options.epochs is not None or options.max_steps is not None
        self.most = trainer.most if limited else math.inf
        self.began = began - progress.spent
        self.pace = pace.measure_pace(trainer)
        self.ending = self.pace.measuring + self.pace.saving  # seconds behind the last step of an epoch
        self._ended = 0.0  # seconds spent in endings
        self._stepped = self.spent()
        self._seen: deque[tuple[float, int]] = deque(maxlen=WINDOW)  # seconds of stepping, and steps, at each look
        if not progress.plan:
            self._begin()
        self._said = trainer.steps  # the plan that the person knows
        self._next = progress.steps + self._gap()

    def spent(self) -> float:
        """Seconds of the train step so far, those before an interruption included."""
        return pace.now(self.trainer.device) - self.began

    def look(self) -> None:
        """After each optimizer step: plan anew where the end would not be in time, or well before."""
        trainer, steps = self.trainer, self.trainer.progress.steps
        self._stepped = pace.clock() - self.began
        if not self._seen:  # behind the first step, which is slower, and the state written in front of it
            self._seen.append((self._stepped - self._ended, steps))
        if self._next <= steps < trainer.steps and not trainer.epoch_ends:
            self._revise()

    def count(self) -> None:
        self.trainer.progress.spent = self.spent()

    def epoch_ended(self) -> None:
        """Behind everything that ends an epoch; how long that took is expected of the next one, too."""
        spent = self.spent()
        self.ending = spent - self._stepped
        self._ended += self.ending
        if self.trainer.progress.steps < self.trainer.steps:
            self._revise()

    def _begin(self) -> None:
        trainer, job = self.trainer, self.trainer.job
        fits = self._agreed(self._fitting())
        total = min(max(fits, 1), self.most)
        trainer.take(0, int(total))
        an_epoch = clocked(self._epoch_seconds())
        epochs = f"{trainer.epochs} epoch{'s' if trainer.epochs > 1 else ''}"
        if total < self.per_epoch:
            epochs = f"{total / self.per_epoch:.0%} of an epoch"
        trainer.listener.note(
            f"{job.label}: planned {epochs}, {total} optimizer steps ({an_epoch} an epoch, measured over "
            f"{self.pace.batches} batches), to end within {clocked(self.seconds)}"
        )
        if fits < 1:
            trainer.listener.note(f"warning: {job.label}: the time is over before the first step: one is taken")

    def _revise(self) -> None:
        trainer, steps = self.trainer, self.trainer.progress.steps
        paced = steps - self._seen[-1][1] >= trainer.steps // LOOKS if self._seen else True
        if paced:
            self._seen.append((self.spent() - self._ended, steps))
        possible = min(steps + self._agreed(self._fitting()), self.most)
        if possible <= steps:
            early = trainer.steps - steps
            trainer.take(steps, steps)
            if early > TOLERANCE * (steps + early):
                trainer.listener.note(f"{trainer.job.label}: ends at optimizer step {steps}, for the time is over")
        elif paced and abs(possible - trainer.steps) > max(TOLERANCE * trainer.steps, 1):
            trainer.take(steps, int(possible))
            if abs(possible - self._said) > WORTH_SAYING * self._said:
                trainer.listener.note(
                    f"{trainer.job.label}: planned anew at optimizer step {steps}: {possible} in all, not "
                    f"{self._said} ({clocked(self._epoch_seconds())} an epoch)"
                )
                self._said = int(possible)
        self._next = steps + self._gap(possible - steps)

    def _gap(self, fitting: float = math.inf) -> int:
        """Optimizer steps until the next look, the same in every process."""
        rest = min(self.trainer.steps - self.trainer.progress.steps, fitting)
        often = self._agreed(round(LOOK_SECONDS / max(self._step_seconds(), 1e-9)))
        return max(int(min(2 * often, rest)) // 2, 1)

    def _step_seconds(self) -> float:
        """Of an optimizer step: as seen lately, as tried out before that."""
        if len(self._seen) > 1:
            (first, start), (last, end) = self._seen[0], self._seen[-1]
            if end - start >= ENOUGH or last - first > ENOUGH * LOOK_SECONDS:
                return (last - first) / (end - start)
        return self.pace.step(self.trainer.job.options.accumulate)

    def _epoch_seconds(self) -> float:
        return self.per_epoch * self._step_seconds() + self.ending

    def _fitting(self) -> int:
        """How many more optimizer steps the time that is left is enough for, with what ends each epoch."""
        left, step, progress = self.seconds - self.spent(), self._step_seconds(), self.trainer.progress
        current = self.per_epoch * (progress.epoch + 1) - progress.steps
        if left < current * step + self.ending:
            return max(int((left - self.ending) / step), 0)
        left -= current * step + self.ending
        complete, rest = divmod(left, self._epoch_seconds())
        return int(current + complete * self.per_epoch + max(int((rest - self.ending) / step), 0))

    def _agreed(self, value: int) -> int:
        """The first process's answer, in every process."""
        if self.trainer.accelerator.num_processes == 1:
            return value
        values = [value]
        broadcast_object_list(values)
        return values[0]
