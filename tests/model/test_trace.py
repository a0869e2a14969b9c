"""Calling a model with other tensors leaves it as it was, shared modules and parameters included."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.model.trace import Trace, call_with


def shared_module() -> nn.Module:
    tied = nn.Linear(4, 4)
    return nn.Sequential(tied, nn.BatchNorm1d(4), tied)


def shared_parameter() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    return model


@pytest.mark.parametrize("build", [shared_module, shared_parameter])
def test_stand_ins_stand_everywhere_and_are_gone_afterwards(build):
    model = build()
    places = [(name, id(tensor)) for name, tensor in model.named_parameters(remove_duplicate=False)]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    own = (*model.parameters(), *model.buffers())
    zeros = {id(tensor): torch.zeros_like(tensor) for tensor in own}
    assert call_with(model, zeros, torch.randn(3, 4)).count_nonzero() == 0
    with pytest.raises(RuntimeError):
        call_with(model, zeros, torch.randn(3, 5))
    assert [(name, id(tensor)) for name, tensor in model.named_parameters(remove_duplicate=False)] == places
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(isinstance(parameter, nn.Parameter) for parameter in model.parameters())


def test_multiply_accumulates_are_counted_over_all_calls_of_a_module():
    twice = nn.Linear(4, 4)
    model = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.Flatten(), nn.Linear(5 * 6 * 6, 4), twice, nn.ReLU(), twice)
    trace = Trace(model, counting=True)
    with torch.no_grad(), trace.watching():
        model(torch.randn(2, 3, 6, 6))
    convolution, linear = 2 * 5 * 6 * 6 * 3 * 3 * 3, 2 * 180 * 4
    assert trace.macs == {"0": convolution, "1": 0, "2": linear, "3": 2 * 2 * 16, "4": 0, "": convolution + linear + 64}


def test_nothing_is_counted_unasked():
    trace = Trace(nn.Linear(2, 2))
    with torch.no_grad(), trace.watching():
        trace.model(torch.ones(1, 2))
    assert trace.macs == {}
