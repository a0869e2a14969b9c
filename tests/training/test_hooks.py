"""Callbacks: every hook at its moment, failures kept until the model is sound, state in the resume state."""

from __future__ import annotations

import pytest
import torch

from zoo.errors import InputError, WorkError
from zoo.training.hooks import Callbacks, check_callbacks
from zoo.training.trainer import Trainer

ACME = """
import torch
from zoo.api import Callback

class Scribe(Callback):
    def __init__(self, *, at: int = 0):
        self.told, self.at = [], at
    def train_started(self, training): self.told.append(("train_started", training.epoch, training.step)); torch.rand(1)
    def epoch_started(self, training): self.told.append(("epoch_started", training.epoch, training.step))
    def step_ended(self, training): self.told.append(("step_ended", training.epoch, training.step))
    def validation_ended(self, training, metrics):
        self.told.append(("validation_ended", training.epoch, sorted(metrics)))
    def epoch_ended(self, training):
        self.told.append(("epoch_ended", training.epoch, len(training.history)))
        if training.epoch == self.at: training.stop("enough")
    def train_ended(self, training): self.told.append(("train_ended", training.epoch, training.step))
    def state_dict(self): return {"told": self.told, "sum": torch.ones(2)}
    def load_state_dict(self, state): self.told = state["told"]

class Unsaved(Callback):
    def state_dict(self): return {"file": open}

class Outside(Callback):
    files = ("../elsewhere",)

class Halves(Callback):
    def epoch_started(self, training):
        for group in training.optimizer.param_groups: group["lr"] /= 2

def nothing(): return 3

class Late(Callback):
    def epoch_ended(self, training): raise SystemExit(3)
"""


@pytest.fixture(autouse=True)
def acme(plugins):
    names = ("Scribe", "Unsaved", "Outside", "Halves", "nothing", "Late")
    plugins.write("zoo-acme", "[zoo.callbacks]\n" + "\n".join(f"{n} = acme_hooks:{n}" for n in names), acme_hooks=ACME)


def began(trainer: Trainer) -> Trainer:
    trainer.begin(0, {})
    return trainer


def told(trainer: Trainer) -> list:
    return trainer.callbacks.made[0][1].told


def test_every_hook_at_its_moment(make_trainer):
    trainer = began(make_trainer(epochs=2, batch_size=30, callbacks=["Scribe"]))
    steps = len(trainer.job.train)
    trainer.run()
    epochs = [
        [
            ("epoch_started", epoch, epoch * steps),
            *[("step_ended", epoch, epoch * steps + step) for step in range(1, steps + 1)],
            ("validation_ended", epoch, ["accuracy", "loss"]),
            ("epoch_ended", epoch + 1, epoch + 1),
        ]
        for epoch in range(2)
    ]
    assert told(trainer) == [("train_started", 0, 0), *epochs[0], *epochs[1], ("train_ended", 2, 2 * steps)]


def test_a_callback_that_looks_on_changes_nothing(make_trainer):
    torch.manual_seed(0)
    plain = began(make_trainer(epochs=2))
    plain.run()
    torch.manual_seed(0)
    watched = began(make_trainer(epochs=2, callbacks=["Scribe"]))
    watched.run()
    assert [row["loss"] for row in plain.progress.history] == [row["loss"] for row in watched.progress.history]


def test_learning_rates_are_the_callbacks_to_change(make_trainer):
    trainer = began(make_trainer(epochs=3, scheduler=None, lr=0.8, callbacks=["Halves"]))
    trainer.run()
    assert [row["lr"] for row in trainer.progress.history] == [0.4, 0.2, 0.1]


def test_stopping_ends_the_training_behind_the_epoch(make_trainer):
    trainer = began(make_trainer(epochs=5, callbacks=[{"Scribe": {"at": 2}}]))
    progress = trainer.run()
    assert (progress.epoch, progress.stopped) == (2, "enough")
    assert told(trainer)[-1][0] == "train_ended"


def test_a_restored_trainer_knows_what_its_callbacks_knew(make_trainer):
    first = began(make_trainer(epochs=2, callbacks=["Halves", "Scribe"]))
    first.run()
    state = first.callbacks.state_dict()
    assert list(state) == ["1 acme/Scribe"], "what has no state leaves none"
    again = make_trainer(epochs=2, callbacks=["Halves", "Scribe"])
    saved = first.state.load()
    again.restore(saved)
    assert again.callbacks.made[1][1].told == saved.training["callbacks"]["1 acme/Scribe"]["told"]
    assert again.callbacks.made[1][1].told[-1] == ("epoch_ended", 2, 2)


def test_a_failure_waits_until_the_epoch_is_saved(make_trainer):
    trainer = began(make_trainer(epochs=2, callbacks=["Late", "Scribe"]))
    with pytest.raises(WorkError, match=r"acme/Late \(zoo-acme 1.0\) failed in epoch_ended: SystemExit: 3"):
        trainer.run()
    assert trainer.state.last_epoch().training["progress"]["epoch"] == 1
    assert trainer.callbacks.made[1][1].told[-1][0] == "epoch_ended", "the others go on"
    assert trainer.rewind()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Unsaved", r"acme/Unsaved \(zoo-acme 1.0\) failed in state_dict: the resume state cannot be written"),
        ("Outside", r"acme/Outside \(zoo-acme 1.0\) would write '../elsewhere' into the run's folder"),
        ("nothing", r"acme/nothing \(zoo-acme 1.0\) is no callback: it does not derive from zoo.api.Callback"),
        ({"Scribe": {"when": 3}}, r"acme/Scribe \(zoo-acme 1.0\) cannot be made: TypeError"),
        ("Scrib", "no callback is called 'Scrib'"),
    ],
)
def test_what_cannot_be_used_is_found_before_training(name, said):
    with pytest.raises(InputError, match=said):
        check_callbacks([name])


def test_no_callbacks_cost_nothing(make_trainer):
    assert Callbacks([]).state_dict() == {}
    check_callbacks([])
