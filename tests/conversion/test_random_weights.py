"""Random weights: all different, repeatable, and in little memory where they are only read."""

from __future__ import annotations

import torch
from torch import nn

from zoo.conversion.random_weights import emptied, fill_empty, randomise


class Mixed(nn.Module):
    """Every kind of parameter; the second embedding is the first."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(20))
        self.token = nn.Parameter(torch.zeros(1, 1, 32))
        self.embedding, self.output = nn.Embedding(40, 32), nn.Linear(32, 40, bias=False)
        self.output.weight = self.embedding.weight
        self.narrow = nn.Linear(4, 4, dtype=torch.bfloat16)


def all_random(model):
    for name, value in model.named_parameters():
        if value.dtype == torch.float32:
            assert value.flatten().unique().numel() >= 0.99 * value.numel(), name
            assert value.std() > 0.01, name


def test_random_weights_are_all_random_and_repeatable():
    model, again = Mixed(), Mixed()
    randomise(model)
    randomise(again)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    all_random(model)
    assert model.norm.running_var.min() > 0


def test_empty_parameters_are_filled_repeatably_and_none_like_another():
    model, again, other = (emptied(Mixed()) for _ in range(3))
    for network, seed in ((model, 0), (again, 0), (other, 1)):
        fill_empty(network, seed)
    state = model.state_dict()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in state.items())
    assert not torch.equal(state["layers.3.weight"], other.state_dict()["layers.3.weight"])
    all_random(model)
    weights = [layer.weight for layer in model.layers]
    assert not any(torch.equal(one, two) for one in weights for two in weights if one is not two)
    assert model.narrow.weight.dtype == torch.bfloat16
    assert model.output.weight is model.embedding.weight


def test_what_is_filled_is_distributed_as_random_weights_are():
    filled, drawn = emptied(Mixed()), Mixed()
    fill_empty(filled, 0)
    randomise(drawn)
    for name, value in drawn.named_parameters():
        if value.numel() > 500:
            own = filled.get_parameter(name)
            assert abs(own.std() / value.std() - 1) < 0.15, name
            assert abs(own.mean() - value.mean()) < 0.05, name


def test_parameters_with_values_are_left_and_the_empty_ones_share_memory():
    model = emptied(Mixed())
    token = nn.Parameter(torch.full((1, 1, 32), 7.0))
    model.token = token
    fill_empty(model, 0)
    assert model.token is token
    storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in model.parameters()}
    assert len(storages) < 10
    assert all(value.untyped_storage().data_ptr() % 64 == value.data_ptr() % 64 for value in model.parameters())


def test_a_parameter_in_two_places_stays_one_when_it_is_emptied():
    layer = nn.Linear(3, 4)
    one, other = emptied(nn.ModuleList([layer, nn.Sequential(layer)])).named_parameters(remove_duplicate=False), layer
    assert {name for name, value in one if value is other.weight and value.is_meta} == {"0.weight", "1.0.weight"}
