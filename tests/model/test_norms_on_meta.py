"""The short way through normalisation on `meta` says of shapes, gradients and mistakes what torch says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.model.norms_on_meta import NormsOnMeta

LAYERS = {
    "batch": (lambda: nn.BatchNorm2d(3), (2, 3, 4, 4)),
    "batch, one axis": (lambda: nn.BatchNorm1d(3), (2, 3)),
    "batch, not affine": (lambda: nn.BatchNorm2d(3, affine=False), (2, 3, 4, 4)),
    "batch, no statistics": (lambda: nn.BatchNorm2d(3, track_running_stats=False), (2, 3, 4, 4)),
    "layer": (lambda: nn.LayerNorm(4), (2, 3, 4)),
    "layer, no bias": (lambda: nn.LayerNorm((3, 4), bias=False), (2, 3, 4)),
}


def passed(layer: nn.Module, shape: tuple[int, ...]) -> tuple:
    value = torch.randn(shape, device="meta", requires_grad=True)
    output = layer(value)
    leaves = [value, *layer.parameters()]
    gradients = torch.autograd.grad(output.sum(), leaves)
    return output.shape, output.dtype, output.stride(), output.device, [each.shape for each in gradients]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_it_is_what_torch_says(name, training):
    make, shape = LAYERS[name]
    with torch.device("meta"):
        layer = make().train(training)
    expected = passed(layer, shape)
    with NormsOnMeta():
        assert passed(layer, shape) == expected


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.BatchNorm2d(3), (2, 4, 4, 4)),
        (lambda: nn.BatchNorm1d(3), (1, 3)),  # one value a channel has no variance
        (lambda: nn.LayerNorm(4), (2, 3, 5)),
        (lambda: nn.LayerNorm(4), ()),
    ],
)
def test_what_does_not_fit_fails_in_torchs_words(make, shape):
    with torch.device("meta"):
        layer, value = make(), torch.randn(shape)
    with pytest.raises((ValueError, RuntimeError)) as expected:
        layer(value)
    with NormsOnMeta(), pytest.raises(type(expected.value)) as raised:
        layer(value)
    assert str(raised.value) == str(expected.value)


def test_numbers_are_computed_as_ever():
    layer, value = nn.BatchNorm2d(3), torch.randn(2, 3, 4, 4)
    expected = nn.BatchNorm2d(3)(value)
    with NormsOnMeta():
        assert torch.equal(layer(value), expected)


def test_a_value_changed_in_place_is_seen():
    with torch.device("meta"), NormsOnMeta():
        value = torch.randn(2, 3, 4, 4, requires_grad=True).clone()
        output = nn.BatchNorm2d(3)(value)
        value += 1
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            output.sum().backward()
