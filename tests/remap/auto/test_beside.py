"""Norms and the layers that they stand beside."""

from __future__ import annotations

import pytest

from zoo.remap.auto import match
from zoo.remap.auto.beside import beside
from zoo.remap.auto.units import find_units


def conv(path, out, inside):
    return {f"{path}.weight": (out, inside, 1, 1)}


def norm(path, width):
    return {f"{path}.{leaf}": (width,) for leaf in ("weight", "bias", "running_mean", "running_var")}


@pytest.fixture
def found(make):
    """`found(shapes, ordered)`: the layers beside norms."""
    return lambda shapes, ordered=False: beside(find_units(make(shapes)), ordered)


def test_by_name(found):
    assert found({**conv("b.conv1", 8, 4), **conv("b.conv2", 8, 8), **norm("b.bn2", 8), **norm("b.bn1", 8)}) == {
        "b.bn1": "b.conv1", "b.bn2": "b.conv2",
    }  # fmt: skip
    assert found({**conv("conv1", 8, 4), **norm("conv1.norm", 8)}) == {"conv1.norm": "conv1"}


def test_as_the_only_two_of_their_parent(found):
    assert found({**conv("a.convolution", 8, 4), **norm("a.normalization", 8)}) == {"a.normalization": "a.convolution"}


def test_in_the_order_of_registration(found):
    shapes = {**conv("b.conv_pw", 8, 4), **norm("b.bn1", 8), **conv("b.conv_dw", 8, 1), **norm("b.bn2", 8)}
    assert found(shapes, ordered=True) == {"b.bn1": "b.conv_pw", "b.bn2": "b.conv_dw"}
    assert found(shapes) == {}


def test_norms_in_front_of_layers_are_beside_none_by_name(found):
    """Pre-activation: norm1 has the width that conv1 takes, not the one it gives."""
    shapes = {**norm("b.norm1", 4), **conv("b.conv1", 8, 4), **norm("b.norm2", 8), **conv("b.conv2", 8, 8)}
    assert found(shapes) == {}


def test_it_settles_norms_that_nothing_else_does(make):
    """transformers' MobileNetV2 against timm's: the norms are called alike, and the file is in no order."""
    source = {
        **norm("l.0.three.normalization", 8), **norm("l.0.expand.normalization", 8),
        **conv("l.0.expand.convolution", 8, 4), "l.0.three.convolution.weight": (8, 1, 3, 3),
    }  # fmt: skip
    target = {
        **conv("b.0.conv_pw", 8, 4),
        **norm("b.0.bn1", 8),
        "b.0.conv_dw.weight": (8, 1, 3, 3),
        **norm("b.0.bn2", 8),
    }
    result = match(make(source), make(target))
    assert result.status == "unique"
    assert result.mapping["b.0.bn1.weight"] == ("l.0.expand.normalization.weight",)
    assert result.mapping["b.0.bn2.weight"] == ("l.0.three.normalization.weight",)
