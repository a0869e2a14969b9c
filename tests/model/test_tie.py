"""Sharing: one object at two places, through training, freezing, copying, saving and loading."""

import copy

import pytest
import torch
from torch import nn

from zoo.errors import InputError
from zoo.model.freezing import freeze
from zoo.model.surgeries import tie, untie


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 2))


def train(model, steps=3):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(5, 4)).square().mean().backward()
        optimizer.step()


def test_a_tied_module_is_one_module(model):
    tie(model, path="4", to="2")
    assert model[4] is model[2]
    assert len(list(model.parameters())) == 6
    assert list(model.state_dict())[4:8] == ["4.weight", "4.bias", "5.weight", "5.bias"]


def test_it_stays_shared_through_training(model):
    twin = copy.deepcopy(model)
    tie(model, path="4", to="2")
    x = torch.randn(5, 4)
    model(x).sum().backward()
    twin[4].load_state_dict(twin[2].state_dict())
    twin(x).sum().backward()
    assert torch.allclose(model[2].weight.grad, twin[2].weight.grad + twin[4].weight.grad, atol=1e-6)
    train(model)
    assert model[4].weight is model[2].weight
    assert torch.equal(model.state_dict()["4.weight"], model.state_dict()["2.weight"])


def test_it_stays_shared_through_copying_moving_and_loading(model):
    tie(model, path="4", to="2")
    assert copy.deepcopy(model)[4] is not model[4]
    twin = copy.deepcopy(model).to(torch.float64)
    assert twin[4].weight is twin[2].weight
    state = {key: torch.randn_like(value) for key, value in model.state_dict().items()}
    state["4.weight"] = state["2.weight"]
    model.load_state_dict(state)
    assert torch.equal(model[4].weight, state["2.weight"])
    assert model[4].weight is model[2].weight


def test_freezing_one_place_freezes_both(model):
    tie(model, path="4", to="2")
    part = freeze(model, ["2"])
    assert not model[4].weight.requires_grad
    assert part.parameters == ("2.weight", "2.bias")
    before = model[4].weight.clone()
    train(model)
    assert torch.equal(model[4].weight, before)


def test_one_parameter_alone(model):
    tie(model, path="4.weight", to="2.weight")
    assert model[4].weight is model[2].weight
    assert model[4].bias is not model[2].bias
    train(model)
    assert model[4].weight is model[2].weight
    assert not torch.equal(model[4].bias, model[2].bias)


def test_untie_gives_a_copy_of_its_own(model):
    tie(model, path="4", to="2")
    untie(model, path="4")
    assert model[4] is not model[2]
    assert torch.equal(model[4].weight, model[2].weight)
    tie(model, path="4.weight", to="2.weight")
    untie(model, path="4.weight")
    train(model)
    assert not torch.equal(model[4].weight, model[2].weight)


@pytest.mark.parametrize(
    ("path", "to", "message"),
    [
        ("4", "0", "they cannot be one"),
        ("4.weight", "0.weight", r"\[8, 8\] and '0.weight' is \[8, 4\]"),
        ("4", "2.weight", "is a parameter, the other is not"),
        ("4", "4", "inside each other or are the same"),
        ("", "2", "the model itself"),
        ("4", "", "inside each other"),
        ("7", "2", "no module at '7'"),
        ("4.wieght", "2.weight", "neither a module nor a parameter at '4.wieght'"),
    ],
)
def test_what_cannot_be_one(model, path, to, message):
    with pytest.raises(InputError, match=message):
        tie(model, path=path, to=to)
    assert len(list(model.parameters())) == 8
