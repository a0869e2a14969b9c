"""The layers of a model from its input to its head."""

from __future__ import annotations

import pytest
import timm
import torchvision

from zoo.model.depths import find_chain, layer_depths


def test_layer_depths_of_a_vision_transformer_are_beits():
    model = timm.create_model("vit_tiny_patch16_224", reg_tokens=4)
    depths = layer_depths(model)
    expected = {
        name: int(name.split(".")[1]) + 1 if name.startswith("blocks.") else 0 for name, _ in model.named_parameters()
    }
    expected |= {"norm.weight": 12, "norm.bias": 12, "head.weight": 13, "head.bias": 13}
    assert depths == expected  # register tokens lie with the stem; timm gives them the head's rate


@pytest.mark.parametrize(
    ("model", "blocks", "samples"),
    [
        (torchvision.models.resnet18(), 8, {"conv1.weight": 0, "layer1.0.conv1.weight": 1, "layer4.1.bn2.bias": 8}),
        (timm.create_model("resnet50"), 16, {"bn1.bias": 0, "layer1.2.conv3.weight": 3, "layer2.0.conv1.weight": 4}),
        (torchvision.models.mobilenet_v2(), 19, {"features.0.0.weight": 1, "features.18.0.weight": 19}),
        (timm.create_model("convnext_atto"), 12, {"stem.0.weight": 0, "stages.0.blocks.1.conv_dw.weight": 2}),
        (torchvision.models.vit_b_16(), 12, {"class_token": 0, "encoder.ln.weight": 12, "conv_proj.weight": 0}),
        (timm.create_model("tf_efficientnet_lite0"), 16, {"conv_stem.weight": 0, "bn2.bias": 16}),
    ],
)
def test_layer_depths_count_blocks(model, blocks, samples):
    depths = layer_depths(model)
    assert set(depths.values()) == set(range(0 if 0 in depths.values() else 1, blocks + 2))
    assert {name: depths[name] for name in samples} == samples
    assert list(depths.values()) == sorted(depths.values())  # registered in order of depth


def test_a_chain_of_stages_or_of_their_blocks():
    model = torchvision.models.resnet18()
    assert find_chain(model, "stages") == ["layer1", "layer2", "layer3", "layer4"]
    assert find_chain(model, "blocks") == [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
