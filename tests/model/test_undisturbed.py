"""A model that something was found out about is as it was, also where finding out failed."""

from __future__ import annotations

import copy
import random
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zoo.model.freezing import freeze, unfreeze
from zoo.model.undisturbed import generators_kept, undisturbed


class Network(nn.Module):
    """Batch norm, dropout, an attribute and a cache that forward fills."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm, self.dropout = nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout()
        self.calls, self.cache = 0, {"kept": 1}

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.cache["x"] = x
        self.last = x
        result: Tensor = self.dropout(self.norm(self.layer(x)))
        return result


def modes(model: nn.Module) -> dict[str, bool]:
    return {path: module.training for path, module in model.named_modules()}


def draws() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]


def failing(fails: bool) -> AbstractContextManager[Any]:
    """Around a block that fails in its last line, or does not."""
    return pytest.raises(ZeroDivisionError) if fails else nullcontext()


@pytest.fixture
def model() -> Network:
    """In training mode but for one layer, as somebody may have left it."""
    network = Network()
    network.norm.eval()
    return network


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_modes(model: Network, training: bool, fails: bool) -> None:
    before = modes(model)
    with failing(fails), undisturbed(model, training=training):
        assert set(modes(model).values()) == {training}
        assert not fails or 1 / 0
    assert modes(model) == before


def test_without_a_mode_each_module_keeps_its_own(model: Network) -> None:
    before = modes(model)
    with undisturbed(model):
        assert modes(model) == before
        model.eval()
    assert modes(model) == before


@pytest.mark.parametrize("fails", [True, False])
def test_generators_go_on_as_if_nothing_was_drawn(model: Network, fails: bool) -> None:
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    expected = draws()
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    with failing(fails), undisturbed(model):
        torch.manual_seed(7)
        draws()
        assert not fails or 1 / 0
    assert draws() == expected


def test_a_seed_set_inside_does_not_reach_a_device_that_starts_later(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    torch.manual_seed(3)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    with generators_kept():
        torch.manual_seed(8)
    assert seeds[-1] == 3
    seeds.clear()
    with generators_kept():
        torch.rand(2)
    assert seeds == []  # drawing alone does not reach it


def test_attributes_containers_and_hooks(model: Network) -> None:
    before, cache = dict(vars(model)), model.cache
    with undisturbed(model, training=False, attributes=True):
        model.register_forward_hook(lambda *_: None)
        model(torch.rand(2, 3))
        assert model.calls == 1
        assert set(model.cache) == {"kept", "x"}
    assert vars(model) == before
    assert model.cache is cache
    assert cache == {"kept": 1}
    assert not model._forward_hooks


def test_old_weight_norm_gets_its_weight_back() -> None:
    with pytest.warns(FutureWarning):
        layer = nn.utils.weight_norm(nn.Linear(2, 2))
    weight = layer.weight
    with undisturbed(layer, attributes=True), torch.no_grad():
        layer(torch.rand(1, 2))
        assert layer.weight is not weight
    assert layer.weight is weight


@pytest.mark.parametrize("fails", [True, False])
def test_buffers_and_gradients(model: Network, fails: bool) -> None:
    model.train()
    model(torch.rand(4, 3)).sum().backward()
    state = copy.deepcopy(model.state_dict())
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    values = {name: gradient.clone() for name, gradient in gradients.items() if gradient is not None}
    with failing(fails), undisturbed(model, buffers=True):
        assert all(parameter.grad is None for parameter in model.parameters())
        model(torch.rand(4, 3)).sum().backward()
        model.norm.running_mean = torch.ones(3)  # another tensor instead of other numbers in the same one
        assert not fails or 1 / 0
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name])
    for name, parameter in model.named_parameters():
        assert parameter.grad is gradients[name]
        assert name not in values or torch.equal(values[name], gradients[name])


def test_buffers_move_where_nobody_asks_for_them_to_be_kept(model: Network) -> None:
    with undisturbed(model, training=True):
        model(torch.rand(4, 3))
    assert int(model.norm.num_batches_tracked) == 1


def test_frozen_modules_stay_in_evaluation_mode_and_in_the_mode_asked_of_them() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    model[1].eval()
    before = modes(model)
    freeze(model, ["0", "1"])
    with undisturbed(model, training=True):
        assert modes(model) == {"": True, "0": False, "1": False, "2": True}
    with undisturbed(model, training=False):
        assert not any(modes(model).values())
    unfreeze(model)
    assert modes(model) == before


def test_a_class_that_does_more_in_train_undoes_it() -> None:
    class Merging(nn.Linear):
        """Adds something to its weights for evaluation, as adapters do."""

        def train(self, mode: bool = True) -> Any:
            with torch.no_grad():
                self.weight += 1.0 if self.training and not mode else -1.0 if mode and not self.training else 0.0
            return super().train(mode)

    layer = Merging(2, 2)
    weight = layer.weight.detach().clone()
    with undisturbed(layer, training=False, attributes=True):
        assert torch.allclose(layer.weight, weight + 1)
    assert torch.allclose(layer.weight, weight)
    assert layer.training
