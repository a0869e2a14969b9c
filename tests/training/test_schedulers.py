"""Schedules: groups keep their shares at every step of every scheduler, warm-up, and state that goes on bit for bit."""

from __future__ import annotations

import json
import math

import pytest
import timm.scheduler
import torch
from torch import nn

from zoo.errors import InputError, WorkError
from zoo.steps.train import Train
from zoo.training.optimizers import make_optimizer
from zoo.training.schedulers import Schedule, schedule_traps, training_length, warmup_steps
from zoo.training.state import pack, unpack

STEPS, EPOCHS, PER_EPOCH = 24, 6, 4
SCHEDULERS = [
    None,
    "cosine",
    "step",
    "one_cycle",
    "plateau",
    "constant",
    "linear",
    "polynomial",
    {"StepLR": {"step_size": 2, "gamma": 0.5}},
    {"MultiStepLR": {"milestones": [2, 4], "gamma": 0.1}},
    {"ExponentialLR": {"gamma": 0.8}},
    {"LinearLR": {"start_factor": 0.5, "total_iters": 3}},
    {"PolynomialLR": {"total_iters": 5, "power": 2.0}},
    {"CosineAnnealingWarmRestarts": {"T_0": 2}},
    "CosineAnnealingLR",
    "OneCycleLR",
    {"CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3, "cycle_momentum": False}},
    {"ReduceLROnPlateau": {"patience": 1, "factor": 0.3}},
    "CosineLRScheduler",
    {"CosineLRScheduler": {"t_initial": 5, "cycle_limit": 9, "cycle_decay": 0.5, "t_in_epochs": False}},
    {"TanhLRScheduler": {"cycle_limit": 2}},
    {"StepLRScheduler": {"decay_t": 2, "decay_rate": 0.5}},
    {"MultiStepLRScheduler": {"decay_t": [2, 4], "decay_rate": 0.1}},
    {"PlateauLRScheduler": {"patience_t": 0, "decay_rate": 0.3}},
    {"PolyLRScheduler": {"t_in_epochs": False, "noise_range_t": [4, 20]}},
    {"WSDLRScheduler": {"decay_t": 2, "decay_fn": "cosine"}},
]


def trained(scheduler, *, steps: int = STEPS, stop: int | None = None, state=None, **options) -> list[list[float]]:
    """The rates of all groups at every step, from the state on where one is given."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1))
    chosen = Train(scheduler=scheduler, lr=0.2, lr_scale={r"^0\.": 0.25, r"^1\.": 0.5}, optimizer="SGD", **options)
    optimizer = make_optimizer(model, chosen)
    schedule = Schedule(optimizer, chosen, steps=steps, epochs=EPOCHS, higher_is_better=True)
    first = 0
    if state is not None:
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(unpack(json.loads(json.dumps(pack(state["schedule"], "", {}))), {}))
        first = state["step"]
    rates = []
    for step in range(first, steps):
        if step == stop:
            return {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(), "step": step}
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
        if (step + 1) % PER_EPOCH == 0:
            schedule.end_epoch(0.5)
    return rates


@pytest.mark.parametrize("warmup", [0, 5, 0.25])
@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=str)
def test_groups_keep_their_shares_at_every_step(scheduler, warmup):
    rates = trained(scheduler, warmup=warmup)
    assert len(rates) == STEPS
    for quarter, half, whole in rates:
        assert quarter == pytest.approx(0.25 * whole, rel=1e-9, abs=1e-12)
        assert half == pytest.approx(0.5 * whole, rel=1e-9, abs=1e-12)
    assert len({tuple(row) for row in rates}) > 1 or scheduler in (None, "constant", "plateau")


def whole(scheduler, **options) -> list[float]:
    return [row[-1] for row in trained(scheduler, **options)]


def test_closed_forms():
    assert whole("cosine") == pytest.approx([0.1 * (1 + math.cos(math.pi * k / STEPS)) for k in range(STEPS)])
    assert whole("linear") == pytest.approx([0.2 * (1 - k / STEPS) for k in range(STEPS)])
    assert whole("constant") == whole(None) == [0.2] * STEPS
    assert whole("step") == pytest.approx([0.2 * 0.1 ** (k // PER_EPOCH // 2) for k in range(STEPS)])
    assert whole({"ExponentialLR": {"gamma": 0.5}}) == pytest.approx(
        [0.2 * 0.5 ** (k // PER_EPOCH) for k in range(STEPS)]
    )
    assert max(whole("one_cycle")) == pytest.approx(0.2, rel=0.02)
    assert whole("plateau") == [0.2] * STEPS  # patience 10
    best = [0.2] * 12 + [0.06] * 8 + [0.018] * 4  # epochs 2 and 3 bring nothing, and so on
    assert whole({"plateau": {"patience": 1, "factor": 0.3}}) == pytest.approx(best)


def test_torchs_own_classes_move_once_an_epoch_and_zoos_schedules_span_the_training():
    """The units that the page of recipes promises, in rates per optimizer step."""
    epochs = [k // PER_EPOCH for k in range(STEPS)]
    assert whole("CosineAnnealingLR") == pytest.approx([0.1 * (1 + math.cos(math.pi * k / EPOCHS)) for k in epochs])
    half = [0.1 * (1 + math.cos(math.pi * min(k, 12) / 12)) for k in range(13)]
    assert whole({"cosine": {"T_max": 12}})[:13] == pytest.approx(half, abs=1e-12)
    assert whole("LinearLR") == pytest.approx([0.2 * (1 / 3 + 2 / 3 * min(k, 5) / 5) for k in epochs])
    assert whole("PolynomialLR") == pytest.approx([0.2 * (1 - min(k, 5) / 5) for k in epochs])
    assert whole("polynomial") == pytest.approx([0.2 * (1 - k / STEPS) for k in range(STEPS)])
    assert whole({"step": {"step_size": 2}}) == whole({"StepLR": {"step_size": 2}})
    assert whole({"exponential": {"gamma": 0.5}}) == whole({"ExponentialLR": {"gamma": 0.5}})


def test_a_one_cycle_given_in_epochs_keeps_its_length():
    longer = {"OneCycleLR": {"epochs": 12, "steps_per_epoch": PER_EPOCH}}
    assert whole(longer) == whole({"OneCycleLR": {"total_steps": 48}}) != whole("OneCycleLR")


def test_warmup_rises_in_a_line_and_hands_over():
    rates = whole("cosine", warmup=4)
    assert rates[:4] == pytest.approx([0.2 * k / 5 for k in (1, 2, 3, 4)])
    assert rates[4:] == pytest.approx([0.1 * (1 + math.cos(math.pi * k / 20)) for k in range(20)])
    assert whole(None, warmup=STEPS)[-1] == pytest.approx(0.2 * 24 / 25)
    assert [warmup_steps(value, 100) for value in (0, 0.1, 1, 5, 500)] == [0, 10, 1, 5, 500]


def test_a_warm_up_longer_than_training_is_its_beginning():
    """As steep as it was asked for: two steps of a trial do not train at two thirds of the rate."""
    assert whole("cosine", warmup=499) == pytest.approx([0.2 * k / 500 for k in range(1, STEPS + 1)])


def test_epochs_that_are_warm_up_are_none_of_the_schedules():
    """Two of six epochs: the schedule begins at its highest rate and has the other four for itself."""
    rates = whole("CosineAnnealingLR", warmup=2 * PER_EPOCH)
    assert rates[2 * PER_EPOCH :] == pytest.approx([0.1 * (1 + math.cos(math.pi * (k // 4) / 4)) for k in range(16)])
    assert whole({"StepLR": {"step_size": 1}}, warmup=8)[8:] == pytest.approx(
        [0.2 * 0.1 ** (k // 4) for k in range(16)]
    )


def as_timm_trains(scheduler: str, **arguments) -> list[float]:
    """The rates in the loop of timm's own train.py."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.2)
    schedule = getattr(timm.scheduler, scheduler)(optimizer, **arguments)
    rates, updates = [], 0
    for epoch in range(EPOCHS):
        for _ in range(PER_EPOCH):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            updates += 1
            schedule.step_update(num_updates=updates)
        schedule.step(epoch + 1, 0.5)
    return rates


@pytest.mark.filterwarnings("ignore:PlateauLRScheduler is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("scheduler", "given", "worked_out"),
    [
        ("CosineLRScheduler", {"lr_min": 0.01}, {"t_initial": EPOCHS}),
        ("CosineLRScheduler", {"t_in_epochs": False}, {"t_initial": STEPS}),
        ("CosineLRScheduler", {"cycle_limit": 3, "cycle_decay": 0.5}, {"t_initial": 2}),
        ("CosineLRScheduler", {"cycle_limit": 2, "cycle_mul": 2.0}, {"t_initial": 2}),
        ("TanhLRScheduler", {"lb": -6.0, "ub": 4.0}, {"t_initial": EPOCHS}),
        ("PolyLRScheduler", {"power": 0.9, "t_in_epochs": False}, {"t_initial": STEPS}),
        ("WSDLRScheduler", {"decay_t": 3}, {"t_initial": EPOCHS}),
        ("StepLRScheduler", {"decay_t": 2, "decay_rate": 0.5}, {}),
        ("MultiStepLRScheduler", {"decay_t": [3, 5], "decay_rate": 0.1}, {}),
        ("PlateauLRScheduler", {"patience_t": 1}, {"mode": "max"}),
    ],
)
def test_timms_schedulers_move_as_in_timms_own_training(scheduler, given, worked_out):
    assert whole({scheduler: given}) == as_timm_trains(scheduler, **given, **worked_out)


@pytest.mark.parametrize("stop", [2, 4, 9, 20])
@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=str)
def test_a_restored_schedule_goes_on_bit_for_bit(scheduler, stop):
    state = trained(scheduler, stop=stop, warmup=3)
    assert trained(scheduler, state=state, warmup=3) == trained(scheduler, warmup=3)[stop:]


@pytest.mark.parametrize("scheduler", [entry for entry in SCHEDULERS if isinstance(entry, str)])
@pytest.mark.parametrize("steps", [1, 2])
def test_runs_of_a_step_or_two(scheduler, steps):
    assert all(0 <= rate <= 0.2 for row in trained(scheduler, steps=steps) for rate in row)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        ("cosin", "no scheduler is called 'cosin' .did you mean cosine"),
        ({"cosine": {"t_max": 3}}, "scheduler cosine: .*t_max.*it takes T_max, eta_min"),
        ("LambdaLR", "no scheduler is called 'LambdaLR'"),
        ("ExponentialLR", "scheduler ExponentialLR: .*missing.*gamma"),
        (
            {"CosineLRScheduler": {"t_initial": 0}},
            "CosineLRScheduler: it does not take t_initial: 0 .it takes t_initial",
        ),
        ({"WSDLRScheduler": {"decay_t": 9}}, r"WSDLRScheduler: Invalid decay_t \(9\), must be in \(0, t_initial\]"),
    ],
)
def test_mistakes_are_explained(scheduler, message):
    with pytest.raises(InputError, match=message):
        trained(scheduler)


ONE_CYCLE = {"max_lr": 0.1, "total_steps": 20}


@pytest.mark.parametrize(
    ("options", "said", "fatal"),
    [
        ({"warmup": 24}, "a warm-up of 24 steps, and training has 24", False),
        ({"warmup": 0.99}, "a warm-up of 0.99 of all steps, and training has 24", False),
        ({"scheduler": {"plateau": {"mode": "min"}}}, "plateau: mode is min, but accuracy, which it watches, is", True),
        ({"scheduler": {"OneCycleLR": ONE_CYCLE}}, "total_steps is 20, and training takes 24", True),
        ({"scheduler": {"one_cycle": {"epochs": 5, "steps_per_epoch": 4}}}, "it fails at step 21", True),
        ({"scheduler": {"OneCycleLR": ONE_CYCLE | {"total_steps": 25}}}, "it ends in the middle of the cycle", False),
        ({"scheduler": {"cosine": {"T_max": 6}}}, "T_max is 6, and training has 24 optimizer steps", False),
        ({"scheduler": {"CosineAnnealingLR": {"T_max": 5}}}, "the rate rises again after that", False),
        ({"scheduler": {"PolynomialLR": {"power": 2}}, "epochs": 6}, None, None),
        ({"scheduler": {"PolynomialLR": {"total_iters": 4}}}, "total_iters is 4, and training has 6 epochs", False),
        ({"scheduler": {"linear": {"total_iters": 4}}}, "total_iters is 4, and training has 24 optimizer", False),
        ({"scheduler": {"StepLR": {"step_size": 6}}}, "step_size is 6, and training has 6 epochs: the rate", False),
        ({"scheduler": {"MultiStepLR": {"milestones": [9, 6]}}}, "milestones is [9, 6], and", False),
        (
            {"scheduler": {"CosineLRScheduler": {"t_initial": 2}}},
            "it takes 2 epochs, and training has 6: the rate is lr_min after that",
            False,
        ),
        ({"scheduler": {"StepLRScheduler": {"decay_t": 2}}}, "decay_rate is 1 unless it is given", False),
        ({"scheduler": {"PlateauLRScheduler": {"mode": "min", "patience_t": 1}}}, "mode is min, but accuracy", True),
        ({"scheduler": "PlateauLRScheduler"}, "patience_t is 10 by default, and training has 6 epochs", False),
        ({"scheduler": "plateau"}, "patience is 10 by default, and training has 6 epochs: the rate never", False),
    ],
    ids=str,
)
def test_a_schedule_that_does_not_fit_the_training_is_told(options, said, fatal):
    traps = list(schedule_traps(Train(**options), steps=24, epochs=6, watched="accuracy", higher_is_better=True))
    traps = [trap for trap in traps if fatal is None or trap.fatal == fatal]
    if said is None:  # torch's own five epochs are as good as given
        assert "total_iters is 5" in traps[0].message
    else:
        assert [said in trap.message for trap in traps] == [True], traps


@pytest.mark.parametrize(
    "scheduler",
    [
        *(None, "cosine", "step", "one_cycle", "constant", "linear", "polynomial", "CosineAnnealingLR", "OneCycleLR"),
        {"plateau": {"mode": "max", "patience": 2}},
        {"LinearLR": {"total_iters": 3}},
        {"CosineAnnealingWarmRestarts": {"T_0": 2}},
        {"one_cycle": {"total_steps": 20}},
        *("CosineLRScheduler", {"TanhLRScheduler": {"t_initial": 1, "cycle_limit": 5}}),
        {"CosineLRScheduler": {"t_initial": 2, "cycle_mul": 2.0, "cycle_limit": 2}},
        {"StepLRScheduler": {"decay_t": 2, "decay_rate": 0.1}},
    ],
    ids=str,
)
def test_one_that_fits_is_not(scheduler):
    options = Train(scheduler=scheduler, warmup=4)
    assert not list(schedule_traps(options, steps=24, epochs=6, watched="accuracy", higher_is_better=True))


def test_what_is_called_an_error_is_one():
    """A cycle that is too short does fail in torch, at the step that the message names."""
    with pytest.raises(ValueError, match="Tried to step 21 times"):
        trained({"OneCycleLR": ONE_CYCLE})


@pytest.mark.parametrize(
    ("options", "length"),
    [({"epochs": 3}, (3, 12)), ({"max_steps": 5}, (2, 5)), ({"epochs": 1, "max_steps": 9}, (1, 4))],
)
def test_the_length_of_a_training(options, length):
    assert training_length(Train(**options), PER_EPOCH) == length


LATE = """
class Late:
    def __init__(self, optimizer, *, total_steps: int): self.steps = 0
    def step(self):
        self.steps += 1
        if self.steps == 3: raise RuntimeError("past the end")
    def state_dict(self): return {}
    def load_state_dict(self, state): pass
"""


def test_a_plugins_scheduler_that_fails_later_is_named(plugins):
    plugins.write("zoo-acme", "[zoo.schedulers]\nLate = acme_late:Late", acme_late=LATE)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    options = Train(epochs=1, scheduler="acme/Late")
    schedule = Schedule(optimizer, options, steps=4, epochs=1, higher_is_better=True)
    schedule.step()
    schedule.step()
    with pytest.raises(WorkError, match=r"acme/Late \(zoo-acme 1.0\) failed: RuntimeError: past the end"):
        schedule.step()
