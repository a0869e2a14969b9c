"""A train step that ends in time, by a clock that the tests move: every batch takes what they say it does."""

from __future__ import annotations

import copy

import pytest
import torch

from listeners import Killed, Notes
from zoo.training import pace
from zoo.training.time_budget import plan_time


class Clock:
    """Moves by `batch` seconds with every training batch, by `ending` with every look at the validation data."""

    def __init__(self, batch: float = 1.0, ending: float = 3.0) -> None:
        self.seconds, self.batch, self.ending = 0.0, batch, ending

    def __call__(self) -> float:
        return self.seconds

    def attend(self, trainer) -> None:
        for batches, name in ((trainer.job.train, "batch"), (trainer.job.validation, "ending")):
            batches.epoch = self._slowed(batches.epoch, name)

    def _slowed(self, epoch, name):
        def slowed(number, start=0):
            for batch in epoch(number, start):
                # three batches of validation: a third of an ending each
                self.seconds += getattr(self, name) / (3 if name == "ending" else 1)
                yield batch

        return slowed


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(pace, "clock", clock)
    measure = pace.measure_pace

    def in_no_time(trainer):
        began = clock.seconds
        found = measure(trainer)
        clock.seconds = began
        return found

    monkeypatch.setattr(pace, "measure_pace", in_no_time)
    return clock


def planned(trainer, clock, share=None):
    """The trainer with its plan, made now."""
    clock.attend(trainer)
    plan_time(trainer, share, clock.seconds)
    return trainer


def begun(trainer):
    trainer.begin(0, {})
    return trainer


BUDGET = {"epochs": None, "time_budget": "35s", "scheduler": "cosine"}  # 4 batches an epoch: 7 seconds with its ending


def test_as_many_epochs_as_fit(make_trainer, clock):
    notes = Notes()
    trainer = begun(planned(make_trainer(listener=notes, **BUDGET), clock))
    progress = trainer.run()
    assert clock.seconds - trainer.plan.began == 35
    assert progress.plan == [[0, 20]]
    assert progress.steps == 20
    assert notes.notes[0].startswith("train: planned 5 epochs, 20 optimizer steps (7.0 s an epoch, measured over ")
    assert notes.notes[0].endswith(" batches), to end within 35.0 s")


def test_the_schedule_ends_with_the_time(make_trainer, clock):
    trainer = begun(planned(make_trainer(**BUDGET), clock))
    trainer.run()
    last = trainer.progress.history[-1]
    assert last["lr"] < 0.05 * 0.05


def test_a_machine_that_becomes_slower_still_ends_in_time(make_trainer, clock):
    notes = Notes()
    trainer = begun(planned(make_trainer(listener=notes, **BUDGET | {"time_budget": "2m"}), clock))
    epoch = trainer.job.train.epoch

    def slower(number, start=0):
        clock.batch = 1.0 if number < 5 else 3.0
        return epoch(number, start)

    trainer.job.train.epoch = slower
    progress = trainer.run()
    spent = clock.seconds - trainer.plan.began
    assert 120 * 0.95 - 3 <= spent <= 120 + 3  # at most a batch late
    assert len(progress.plan) > 1
    assert any("planned anew at optimizer step" in note for note in notes.notes)


def test_less_than_an_epoch(make_trainer, clock):
    trainer = begun(planned(make_trainer(**BUDGET | {"time_budget": "5s"}), clock))
    progress = trainer.run()
    assert progress.steps == 2
    assert progress.epoch == 1
    assert clock.seconds - trainer.plan.began == 5


def test_time_that_is_over_takes_one_step(make_trainer, clock):
    notes = Notes()
    trainer = make_trainer(listener=notes, **BUDGET | {"time_budget": "1s"})
    clock.attend(trainer)
    plan_time(trainer, None, clock.seconds - 100)
    assert begun(trainer).run().steps == 1
    assert "the time is over before the first step" in notes.notes[1]


@pytest.mark.parametrize(("limit", "steps"), [({"epochs": 2}, 8), ({"max_steps": 3}, 3)])
def test_at_most_what_is_asked_for(make_trainer, clock, limit, steps):
    trainer = begun(planned(make_trainer(**BUDGET | limit), clock))
    assert trainer.run().steps == steps


def test_the_smaller_of_its_own_time_and_its_share_of_the_run(make_trainer, clock):
    assert planned(make_trainer(**BUDGET), clock, 10.0).plan.seconds == 10
    assert planned(make_trainer(**BUDGET), clock, 100.0).plan.seconds == 35
    assert planned(make_trainer(epochs=3), clock, 100.0).plan.seconds == 100


def test_the_trial_leaves_no_trace(make_trainer, clock):
    """Training behind a trial has the bits of the same training without one."""
    options = {"optimizer": "AdamW", "scheduler": "cosine", "ema": 0.9}
    plain = make_trainer(epochs=5, **options)
    plain.begin(0, {})
    plain.run()
    trial = planned(make_trainer(epochs=5, time_budget="1h", **options), clock)
    assert begun(trial).run().plan == [[0, 20]]
    for name, value in plain.job.model.state_dict().items():
        assert torch.equal(value, trial.job.model.state_dict()[name]), name


@pytest.mark.parametrize("scheduler", ["cosine", "OneCycleLR", "step", "ReduceLROnPlateau", None])
def test_a_plan_repeated_gives_the_same_bits(make_trainer, clock, scheduler):
    options = BUDGET | {"time_budget": "1m", "scheduler": scheduler, "optimizer": "AdamW", "warmup": 0.1}
    first = begun(planned(make_trainer(**options), clock))
    epoch = first.job.train.epoch

    def other(number, start=0):
        clock.batch = 1.0 if number < 3 else 2.5
        return epoch(number, start)

    first.job.train.epoch = other
    plan = [tuple(pair) for pair in first.run().plan]
    assert len(plan) > 1
    again = begun(planned(make_trainer(**options, planned=plan), clock))
    assert again.run().plan == first.progress.plan
    assert [row["lr"] for row in again.progress.history] == [row["lr"] for row in first.progress.history]
    for name, value in first.job.model.state_dict().items():
        assert torch.equal(value, again.job.model.state_dict()[name]), name


def test_an_epochs_last_step_is_planned_once(make_trainer, clock):
    """Not by the look behind the step and again behind the epoch: a plan of two pairs for one step repeats neither."""
    options = BUDGET | {"time_budget": "4m", "accumulate": 4}  # every optimizer step is an epoch's last
    trainer = begun(planned(make_trainer(**options), clock))
    epoch = trainer.job.train.epoch

    def other(number, start=0):
        clock.batch, clock.ending = (1.0, 9.0) if number % 4 < 2 else (3.0, 1.0)
        return epoch(number, start)

    trainer.job.train.epoch = other
    steps = [step for step, _ in trainer.run().plan]
    assert len(steps) > 3
    assert steps == sorted(set(steps))


def test_resumed_in_the_middle_of_an_epoch(make_trainer, clock, monkeypatch):
    """The plan goes on, and the time spent before counts."""
    options = BUDGET | {"time_budget": "1m", "optimizer": "AdamW"}
    whole = begun(planned(make_trainer(**options), clock))
    whole.run()
    cut = begun(planned(make_trainer(**options), clock))
    original = cut._step

    def step():
        original()
        if cut.progress.steps == 18:
            cut.progress.batch = 2
            cut.save()
            raise Killed

    cut._step = step
    with pytest.raises(Killed):
        cut.run()
    resumed = make_trainer(**options)
    clock.seconds += 1000  # the interruption costs no time
    resumed.restore(resumed.state.load())
    planned(resumed, clock)
    resumed.run()
    assert resumed.progress.spent == pytest.approx(whole.progress.spent, abs=1)
    assert resumed.progress.plan == whole.progress.plan
    for name, value in whole.job.model.state_dict().items():
        assert torch.equal(value, resumed.job.model.state_dict()[name]), name


def test_resumed_without_its_clock_the_plan_goes_on(make_trainer, clock):
    """As after `--within`, which is not in the recipe."""
    cut = begun(planned(make_trainer(epochs=9, scheduler="cosine"), clock, 40.0))
    cut.listener.epoch_ended = lambda trainer, record: (_ for _ in ()).throw(Killed()) if record["epoch"] == 2 else None
    with pytest.raises(Killed):
        cut.run()
    plan = copy.deepcopy(cut.progress.plan)
    resumed = make_trainer(epochs=9, scheduler="cosine")
    resumed.restore(resumed.state.load())
    plan_time(resumed, None, 0.0)
    assert resumed.plan is None
    assert resumed.run().steps == plan[-1][1]


@pytest.mark.parametrize("start", [0.6, 4])
def test_an_average_counts_the_epochs_that_are_planned(make_trainer, clock, start):
    """Not those of a training without a length: it would average all of them."""
    trainer = begun(planned(make_trainer(**BUDGET, average={"swa": start}), clock))
    trainer.run()
    assert [member["epoch"] for member in trainer.averaged["members"]] == [4, 5]


def test_what_an_average_counted_too_early_is_let_go(make_trainer):
    soup = make_trainer(epochs=1, average={"swa": 0.5}).soup
    soup.add(1, 0.5, {"weight": torch.ones(2)})
    soup.over(4)
    soup.add(2, 0.5, {"weight": torch.ones(2)})
    soup.add(3, 0.5, {"weight": torch.zeros(2)})
    assert (soup.counted, soup.sum["weight"].tolist()) == ([3], [0.0, 0.0])


def test_callbacks_and_displays_see_the_plan(make_trainer, clock):
    trainer = begun(planned(make_trainer(**BUDGET), clock))
    assert trainer.steps == trainer.progress.plan[-1][1]
    assert trainer.epochs == -(-trainer.steps // 4)
