"""The surgeries, merging and the freezing policy: contracts, equal outputs, who trains, and mistakes."""

import copy

import pytest
import timm
import torch
from torch import nn
from zoo_peft.adapters import adapters, dora, ia3, loha, lokr, lora, oft
from zoo_peft.freezing import adapters_only
from zoo_peft.merging import merge_adapters

from zoo.errors import InputError
from zoo.testing import SurgeryContract

METHODS = {
    "lora": (lora, {"r": 4}),
    "rslora": (lora, {"r": 4, "rslora": True, "alpha": 2.5}),
    "dora": (dora, {"r": 4}),
    "ia3": (ia3, {}),
    "loha": (loha, {"r": 2}),
    "lokr": (lokr, {"r": 2}),
    "oft": (oft, {"block_size": 8}),
}


class Small(SurgeryContract):
    architecture = "tutorial/net_a"


class TestLora(Small):
    component = "peft/lora"


class TestDora(Small):
    component = "peft/dora"
    arguments = {"targets": ["fc1"], "r": 2}


class TestIA3(Small):
    component = "peft/ia3"
    arguments = {"feedforward": ["fc2"]}


class TestLoha(Small):
    component = "peft/loha"


class TestLokr(Small):
    component = "peft/lokr"


class TestOft(Small):
    component = "peft/oft"
    arguments = {"block_size": 8}


def noise(tensors, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in tensors:
            tensor.add_(0.05 * torch.randn(tensor.shape, generator=generator))


def network(name, side=32, **arguments):
    """A network with every parameter random and statistics of its own, in evaluation mode."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, **arguments)
    noise(model.parameters())
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0  # the statistics of one batch, so that what comes out is about as large as what goes in
    with torch.no_grad():
        model.train()(torch.randn(8, 3, side, side))
    return model.eval()


def merged_equals_unmerged(model, surgery, arguments, side):
    """How far the adapted network moved, and how far merging moved it back or on."""
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    before = {id(parameter) for parameter in model.parameters()}
    with torch.no_grad():
        plain = model(images)
        surgery(model, **arguments)
        assert torch.allclose(model.eval()(images), plain, atol=1e-6), "an adapter begins as nothing"
        noise(parameter for parameter in model.parameters() if id(parameter) not in before)
        adapted = model(images)
        merge_adapters(model)
        merged = model(images)
    assert {id(parameter) for parameter in model.parameters()} == before
    return float((adapted - plain).abs().max()), float((merged - adapted).abs().max())


@pytest.mark.parametrize(
    ("name", "method"),
    [*(("test_vit", one) for one in METHODS), *(("test_resnet", one) for one in METHODS if one != "oft")],
)
def test_a_merged_network_computes_the_same(name, method):
    model = network(name, **({"img_size": 32} if name == "test_vit" else {}))
    keys = list(model.state_dict())
    moved, apart = merged_equals_unmerged(model, *METHODS[method], side=32)
    assert moved > 1e-3
    assert apart <= 1e-5
    assert list(model.state_dict()) == keys


def test_all_but_adapters_and_the_head_is_frozen():
    model = lora(network("test_vit", img_size=32), r=2)
    frozen = set(adapters_only(model))
    trained = {name for name, _ in model.named_parameters()} - frozen
    assert {name for name in trained if "lora_" not in name} == {"head.weight", "head.bias"}
    assert len(trained) == 2 * 12 + 2
    assert "head.weight" in adapters_only(model, train_head=False)


def test_statistics_of_the_base_are_frozen():
    model = lora(network("test_resnet"))
    statistics = {name for name, _ in model.named_buffers()}
    assert statistics
    assert statistics <= set(adapters_only(model))


def test_a_copy_is_a_network_of_its_own():
    model = lora(network("test_vit", img_size=32))
    again = copy.deepcopy(model)
    merge_adapters(again)
    assert adapters(model)
    assert not adapters(again)


@pytest.mark.parametrize(
    ("surgery", "arguments", "why"),
    [
        (lora, {"r": 0}, "r is 0: a rank is from 1 to 64"),
        (lora, {"r": 65}, "r is 65: a rank is from 1 to 64"),
        (lora, {"dropout": 1.0}, "dropout is 1.0: a probability from 0 to below 1"),
        (lora, {"targets": []}, "the list of targets is empty"),
        (lora, {"targets": ["qkw"]}, "no module is called 'qkw' (did you mean qkv?)"),
        (oft, {"block_size": 7}, "block_size is 7, which does not divide the 64 inputs of blocks.0.attn.qkv"),
        (merge_adapters, {}, "the model has no adapters to merge"),
        (adapters_only, {}, "adapters_only: the model has no adapters"),
    ],
)
def test_mistakes(surgery, arguments, why):
    with pytest.raises(InputError) as caught:
        surgery(network("test_vit", img_size=32), **arguments)
    assert str(caught.value).startswith(why)


def test_adapters_are_not_stacked():
    with pytest.raises(InputError, match="has an adapter already"):
        ia3(lora(network("test_vit", img_size=32)))


def test_ia3_scales_the_inputs_of_layers_that_narrow():
    model = ia3(network("test_vit", img_size=32))
    scales = {name: tuple(p.shape) for name, p in model.named_parameters() if "ia3_l" in name and "blocks.0" in name}
    assert scales == {
        "blocks.0.attn.qkv.ia3_l.default": (192, 1),
        "blocks.0.attn.proj.ia3_l.default": (64, 1),
        "blocks.0.mlp.fc2.ia3_l.default": (1, 192),
    }


def test_oft_is_for_linear_layers():
    with pytest.raises(InputError, match=r"layer1\.0\.conv1 is a Conv2d; this adapter is for Linear"):
        oft(network("test_resnet"), targets=["layer1.0.conv1"])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "dora", "ia3"])
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18"])
def test_merging_on_larger_networks(name, method):
    moved, apart = merged_equals_unmerged(network(name, side=224), *METHODS[method], side=224)
    assert moved > 1e-4
    assert apart <= 1e-5
