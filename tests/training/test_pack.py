"""Nested state through JSON and tensors and back: optimizers of every kind go on bit for bit."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from zoo.errors import WorkError
from zoo.recipe.steps import Train
from zoo.training.optimizers import make_optimizer
from zoo.training.pack import pack, unpack
from zoo.training.seeding import generator_states, restore_generators, seed_everything

OPTIMIZERS = [
    {"SGD": {"momentum": 0.9}},
    "AdamW",
    {"Adam": {"amsgrad": True}},
    {"AdamW": {"foreach": True}},
    {"RMSprop": {"momentum": 0.5, "centered": True}},
    "Adagrad",
    "NAdam",
    "lamb",
    "lion",
    "adopt",
]


def through_json(value):
    tensors: dict[str, torch.Tensor] = {}
    packed = json.loads(json.dumps(pack(value, "state", tensors)))
    return unpack(packed, {name: tensor.clone() for name, tensor in tensors.items()})


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, None, True, "x"], "b": {"c": (1, (2, [3]))}, 3: {"d": 1e-300}},
        {"$tensor": 1, "$x": {"y": 2}},
        [float("inf"), 0.1 + 0.2],
        {},
    ],
)
def test_plain_values_come_back_as_they_were(value):
    assert through_json(value) == value
    assert type(through_json((1, [2]))) is tuple


def test_tensors_come_back_by_name():
    tensors: dict[str, torch.Tensor] = {}
    value = {"a": [torch.arange(3), {"b": torch.eye(2, dtype=torch.bfloat16)}]}
    packed = pack(value, "state", tensors)
    assert list(tensors) == ["state.a.0", "state.a.1.b"]
    assert torch.equal(unpack(packed, tensors)["a"][1]["b"], torch.eye(2, dtype=torch.bfloat16))
    with pytest.raises(WorkError, match=r"lacks the tensor state\.a\.0"):
        unpack(packed, {})


def test_what_json_cannot_hold_is_refused():
    with pytest.raises(WorkError, match=r"state\.x is a function"):
        pack({"x": max.__class__ and (lambda: 0)}, "state", {})


def steps(model: nn.Module, optimizer, count: int) -> None:
    for index in range(count):
        optimizer.zero_grad()
        model(torch.full((5, 4), float(index + 1))).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("given", OPTIMIZERS, ids=str)
def test_a_restored_optimizer_goes_on_bit_for_bit(given):
    def fresh():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
        return model, make_optimizer(model, Train(optimizer=given, lr=0.01))

    model, optimizer = fresh()
    steps(model, optimizer, 3)
    kept = through_json(optimizer.state_dict())
    again, other = fresh()
    again.load_state_dict(model.state_dict())
    other.load_state_dict(kept)
    steps(model, optimizer, 4)
    steps(again, other, 4)
    for mine, theirs in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_generators_go_on_where_they_were():
    import random

    import numpy as np

    seed_everything(3)
    random.gauss(0, 1), np.random.randn(), torch.randn(3)
    kept = through_json(generator_states())
    expected = [random.random(), random.gauss(0, 1), np.random.randn(), torch.randn(2).tolist()]
    seed_everything(4)
    restore_generators(kept)
    assert [random.random(), random.gauss(0, 1), np.random.randn(), torch.randn(2).tolist()] == expected
    seed_everything(3)
    first = random.random(), np.random.rand(), torch.rand(1).item()
    seed_everything(3)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == first
