"""Which nodes of a traced model are fixed while only some parameters train."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo.model.freezing import freeze
from zoo.training.trunk.graph import attribute, fixed_nodes, is_fixed_module, trace


def live(model: nn.Module) -> set[int]:
    return {id(parameter) for parameter in model.parameters() if parameter.requires_grad}


def fixed(model: nn.Module) -> list[str]:
    graph_module = trace(model, live(model))
    return [node.name for node in graph_module.graph.nodes if node in fixed_nodes(graph_module, live(model))]


def test_everything_in_front_of_the_first_trainable_parameter_is_fixed():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).train()
    freeze(model, ["0", "4"])
    assert fixed(model) == ["inputs", "model_0", "model_1"]


def test_what_depends_on_chance_or_the_batch_is_not_fixed():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False), nn.Dropout(0.5), nn.Linear(4, 2)).train()
    freeze(model, ["0"])
    assert fixed(model) == ["inputs", "model_0"]
    assert fixed(model.eval()) == ["inputs", "model_0", "model_1", "model_2"]


class Functional(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.function(self.first(x)))


@pytest.mark.parametrize(
    ("function", "stays"),
    [
        (torch.relu, True),
        (lambda x: F.dropout(x, 0.5, True), False),
        (lambda x: F.dropout(x, 0.5, False), True),
        (lambda x: x + torch.rand_like(x), False),
        (lambda x: F.batch_norm(x, torch.zeros(4), torch.ones(4), None, None, True), False),
        (lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.1), False),
    ],
)
def test_functional_calls(function, stays):
    model = Functional(function).train()
    freeze(model, ["first"])
    graph_module = trace(model, live(model))
    (argument,) = next(node for node in graph_module.graph.nodes if node.target == "model.last").args
    assert (argument in fixed_nodes(graph_module, live(model))) == stays


def test_a_frozen_module_can_stay_a_single_node():
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 2)).train()
    freeze(model, ["0"])
    entered, single = (trace(model, live(model), frozen_as_leaves=leaves) for leaves in (False, True))
    calls = [[str(node.target) for node in g.graph.nodes if node.op == "call_module"] for g in (entered, single)]
    assert calls == [["model.0.0", "model.0.1", "model.1"], ["model.0", "model.1"]]


def test_a_module_is_fixed_without_trainable_parameters_and_without_chance():
    assert is_fixed_module(nn.ReLU(), set())
    assert is_fixed_module(nn.Dropout(0.0).train(), set())
    assert not is_fixed_module(nn.Dropout(0.1).train(), set())
    assert is_fixed_module(nn.Dropout(0.1).eval(), set())
    linear = nn.Linear(2, 2)
    assert not is_fixed_module(nn.Sequential(linear), {id(linear.bias)})


def test_attribute_follows_a_dotted_path():
    model = nn.Sequential(nn.Linear(2, 2))
    assert attribute(model, "0.weight") is model[0].weight
