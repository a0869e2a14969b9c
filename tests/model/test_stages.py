"""Stages found from structure alone."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import nn

from zoo.errors import InputError
from zoo.model.stages import find_stages


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", ["layer1", "layer2", "layer3", "layer4"]),
        ("tf_efficientnet_lite0", [f"blocks.{i}" for i in range(7)]),
        ("vit_tiny_patch16_224", [f"blocks.{i}" for i in range(12)]),
        ("convnext_atto", [f"stages.{i}" for i in range(4)]),
        ("swin_tiny_patch4_window7_224", [f"layers.{i}" for i in range(4)]),
        ("regnetx_002", ["s1", "s2", "s3", "s4"]),
        ("hrnet_w18_small", ["stage2", "stage3", "stage4"]),
    ],
)
def test_stages_of_known_families(name, expected):
    assert find_stages(on_meta(name)) == expected


def test_stages_of_torchvision_models_leave_the_classifier_out():
    with torch.device("meta"):
        vgg, net = torchvision.models.vgg11(), torchvision.models.vit_b_16()
    assert find_stages(vgg) == [f"features.{i}" for i in (0, 3, 6, 8, 11, 13, 16, 18)]
    assert find_stages(net) == [f"encoder.layers.encoder_layer_{i}" for i in range(12)]


def test_no_stages_is_an_error():
    with pytest.raises(InputError, match="no chain of stages"):
        find_stages(nn.Sequential(nn.Linear(2, 2)))


def chain(*names: str) -> nn.Module:
    """A model with a linear layer of each name and a head."""
    model = nn.Module()
    for name in (*names, "head"):
        model.add_module(name, nn.Sequential(nn.Linear(2, 2), nn.ReLU()) if name != "head" else nn.Linear(2, 3))
    return model


def test_numbered_siblings_are_the_chain():
    assert find_stages(chain("stem", "part1", "part2", "part10")) == ["part1", "part2", "part10"]


def test_where_no_row_has_half_of_the_layers_the_children_are_the_stages():
    assert find_stages(chain("one", "two", "three")) == ["one", "two", "three"]
