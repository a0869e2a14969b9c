"""Two networks on one batch: every kind of difference that was put in is found where it is, and called by its name."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from zoo.conversion.compare_models import compare
from zoo.conversion.random_weights import randomise


class Network(nn.Module):
    """A bit of everything: convolutions, batch norm, an attention-like branch, layer norm, a perceptron."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.ModuleDict({"conv": nn.Conv2d(8, 8, 3, 1, 1, groups=2), "norm": nn.BatchNorm2d(8)})
        self.act = nn.SiLU()
        self.pool = nn.AvgPool2d(2)
        self.final = nn.LayerNorm(8, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.head = nn.Linear(8, 5)

    def forward(self, images):
        features = self.stem(images)
        features = features + self.act(self.body["norm"](self.body["conv"](features)))
        vector = self.final(self.pool(features).mean((2, 3)))
        return self.head(vector + self.mlp(vector))


PAIRS = {
    path: path
    for path in ("stem.0", "stem.1", "body.conv", "body.norm", "final", "mlp.0", "mlp.2", "head")
}  # fmt: skip


@pytest.fixture
def networks():
    source = Network()
    randomise(source)
    return source, copy.deepcopy(source)


@pytest.fixture
def images():
    return torch.randn(2, 3, 17, 17, generator=torch.Generator().manual_seed(0))


def test_the_same_network_agrees(networks, images):
    found = compare(*networks, PAIRS, images)
    assert found.equal
    assert found.relative == 0
    assert found.compared == len(PAIRS)
    assert found.first is None
    assert found.settings == ()


def eps_of_a_batch_norm(model):
    model.body["norm"].eps = 1e-3


def eps_of_the_layer_norm(model):
    model.final.eps = 1e-2


def padding(model):
    model.body["conv"].padding = (0, 0)
    model.body["conv"] = nn.Sequential(nn.ConstantPad2d((0, 2, 0, 2), 0.0), model.body["conv"])


def padding_mode(model):
    model.body["conv"].padding_mode = "reflect"
    model.body["conv"]._reversed_padding_repeated_twice = [1, 1, 1, 1]


def stride(model):
    model.stem[0].stride = (1, 1)


def gelu(model):
    model.mlp[1] = nn.GELU(approximate="tanh")


def activation(model):
    model.act = nn.Hardswish()


def pooling(model):
    model.pool = nn.MaxPool2d(2)


def missing_layer(model):
    model.mlp[1] = nn.Identity()


def missing_bias(model):
    model.mlp[0].bias = None


def wrong_statistics(model):
    model.stem[1].running_var.mul_(2)


def swapped_weights(model):
    model.mlp[2].weight.data = model.mlp[2].weight.data.flip(0)


@pytest.mark.parametrize(
    ("change", "where", "path", "words"),
    [
        (eps_of_a_batch_norm, "inside", "body.norm", "eps 1e-05 against 0.001"),
        (eps_of_the_layer_norm, "inside", "final", "eps 1e-06 against 0.01"),
        (padding_mode, "inside", "body.conv", "padding_mode zeros against reflect"),
        (stride, "inside", "stem.0", "stride 2 against 1"),
        (gelu, "before", "mlp.2", "gelu(approximate=none) against gelu(approximate=tanh)"),
        (activation, "before", "final", "silu against hardswish"),
        (pooling, "before", "final", "avg_pool2d"),
        (missing_layer, "before", "mlp.2", "gelu(approximate=none) against nothing"),
        (missing_bias, "inside", "mlp.0", "bias against none"),
        (wrong_statistics, "inside", "stem.1", "its tensors differ: running_var"),
        (swapped_weights, "inside", "mlp.2", "its tensors differ: weight"),
    ],
)
def test_the_first_difference_is_named(networks, images, change, where, path, words):
    source, target = networks
    change(target)
    found = compare(source, target, PAIRS, images)
    assert not found.equal
    assert (found.first.where, found.first.target) == (where, path)
    assert words in found.first.cause
    assert path in found.message
    assert words in found.message


def test_padding_moved_into_a_module_of_its_own(networks, images):
    """TensorFlow's way: the convolution pads nothing, something in front of it pads on one side."""
    source, target = networks
    padding(target)
    pairs = {**PAIRS, "body.conv.1": "body.conv"}
    del pairs["body.conv"]
    found = compare(source, target, pairs, images)
    assert not found.equal
    assert found.first.target == "body.conv.1"
    assert "pad(" in found.first.cause


def test_a_difference_that_does_not_matter_here_is_told_too(networks, images):
    source, target = networks
    target.final.eps = 1e-12
    found = compare(source, target, PAIRS, images)
    assert found.equal
    assert found.settings == ("eps 1e-06 against 1e-12 in 1 modules, first in final",)


def test_channels_last_inside_is_no_difference(images):
    """LayerNorm over channels: one network permutes, the other normalises in place."""

    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.conv = nn.LayerNorm(3), nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return self.conv(self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)).mean((2, 3))

    class Second(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.conv = nn.LayerNorm(3), nn.Linear(3, 4)

        def forward(self, x):
            return self.conv(self.norm(x.flatten(2).transpose(1, 2))).mean(1)

    source, target = First(), Second()
    randomise(source)
    target.load_state_dict(
        {name: value.reshape(target.state_dict()[name].shape) for name, value in source.state_dict().items()}
    )
    found = compare(source, target, {"norm": "norm", "conv": "conv"}, images)
    assert found.equal
    assert found.agreeing == 4


def test_outputs_in_another_order_are_different(networks, images):
    source, target = networks
    target.head.weight.data = target.head.weight.data.flip(0)
    target.head.bias.data = target.head.bias.data.flip(0)
    assert not compare(source, target, {}, images).equal


def test_values_that_are_not_finite_are_never_equal(networks, images):
    source, target = networks
    target.head.bias.data[0] = torch.nan
    found = compare(source, target, PAIRS, images)
    assert not found.equal
    assert found.relative == float("inf")


def test_models_are_left_in_their_modes(networks, images):
    source, target = networks
    source.train()
    target.eval()
    compare(source, target, PAIRS, images)
    assert source.training
    assert not target.training


def test_report_is_plain_data(networks, images):
    source, target = networks
    activation(target)
    told = compare(source, target, PAIRS, images).as_dict()
    assert told["equal"] is False
    assert told["first"]["behind"] == "body.norm"
    assert told["input_shape"] == [2, 3, 17, 17]
