"""The network that a checkpoint or an architecture is: figures that others published, and where parameters are from."""

import json

import pytest
import torch
from torchvision import models

from zoo.checkpoint.inspect import inspect
from zoo.checkpoint.save import save_checkpoint
from zoo.contracts import Context
from zoo.errors import InputError
from zoo.formats.save import save_tensors
from zoo.model.build import build
from zoo.model.freezing import freeze, frozen_part
from zoo.model.load_into import state_of
from zoo.model.operations import operate
from zoo.model.pretrained import load_weights

ARCHITECTURE = "timm/test_vit"


def modules(node):
    yield node
    for child in node["children"]:
        yield from modules(child)


def at(model, path):
    (found,) = [node for node in modules(model["tree"]) if node["path"] == path]
    return found


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "vit_b_16"])
def test_figures_are_those_that_torchvision_publishes(name):
    published = models.get_model_weights(name).DEFAULT.meta
    model = inspect(f"torchvision/{name}")["model"]
    assert round(model["macs"] / 1e9, 3) == published["_ops"]
    assert model["parameters"] == published["num_params"]
    assert (model["input"], model["output"]) == ([1, 3, 224, 224], [1, 1000])
    assert model["tree"]["macs"] == model["macs"]
    assert not model["notes"]


def test_an_architecture_alone_has_no_history():
    found = inspect(ARCHITECTURE, arguments={"num_classes": 7})
    model = found["model"]
    assert (found["kind"], found["file"], found["tensors"]) == ("architecture", None, [])
    assert (model["architecture"], model["arguments"], model["output"]) == (ARCHITECTURE, {"num_classes": 7}, [1, 7])
    marks = ("frozen", "trainable", "loaded", "new", "random")
    assert {node[mark] for node in modules(model["tree"]) for mark in marks} == {None}
    json.dumps(found, allow_nan=False)


def test_equal_blocks_are_one_node_and_its_numbers_those_of_one():
    model = inspect(ARCHITECTURE)["model"]
    network = build(ARCHITECTURE, device="meta").model
    blocks = at(model, "blocks")
    (block,) = blocks["children"]
    assert (block["name"], block["count"]) == (f"0-{len(network.blocks) - 1}", len(network.blocks))
    assert block["parameters"] == sum(p.numel() for p in network.blocks[0].parameters())
    assert (block["count"] * block["parameters"], block["count"] * block["macs"]) == (
        blocks["parameters"],
        blocks["macs"],
    )
    assert blocks["share"] == pytest.approx(blocks["parameters"] / model["parameters"])


def test_what_runs_in_training_alone_is_not_called_dead():
    arguments = {"aux_logits": True, "init_weights": False}
    model = inspect("torchvision/googlenet", arguments=arguments)["model"]
    assert at(model, "aux1")["output"] is None
    assert at(model, "aux1")["note"] == ""


@pytest.fixture
def made(tmp_path):
    """A network whose last block the base weights left alone, with a new head, its patch embedding frozen."""
    torch.manual_seed(0)
    base = build(ARCHITECTURE)
    last = f"blocks.{len(base.model.blocks) - 1}"
    kept = {name: t for name, t in state_of(base.model).items() if not name.startswith(last)}
    save_tensors(kept, tmp_path / "base.safetensors")
    assembly = build(ARCHITECTURE)
    load_weights(assembly, str(tmp_path / "base.safetensors"), ignore=[last])
    operate(assembly, "zoo/swap_head", {"num_classes": 5}, Context())
    freeze(assembly.model, ["patch_embed"])
    assembly.frozen = frozen_part(assembly.model)
    save_checkpoint(assembly, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors", assembly.model, last


def size(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_say_where_they_come_from(made):
    path, network, last = made
    model = inspect(path)["model"]
    assert not model["notes"]
    head, block = size(network.head), size(network.get_submodule(last))
    assert (model["new"], model["random"]) == (head, block)
    assert model["loaded"] == size(network) - head - block
    assert model["frozen"] == size(network.patch_embed)
    assert model["trainable"] == size(network) - model["frozen"]
    assert at(model, "head")["new"] == head
    assert at(model, last)["random"] == block
    assert at(model, "patch_embed")["loaded"] == at(model, "patch_embed")["frozen"] == size(network.patch_embed)
    earlier = at(model, "blocks.0")
    assert earlier["count"] == len(network.blocks) - 1  # the last one is no neighbour's equal: it was not loaded


def test_without_the_base_weights_the_rest_is_said(made):
    path, network, _ = made
    (path.parent / "base.safetensors").unlink()
    model = inspect(path)["model"]
    assert (model["loaded"], model["new"], model["random"]) == (None, None, None)
    assert model["frozen"] == size(network.patch_embed)
    (note,) = model["notes"]
    assert note.startswith("which parameters were loaded is not known: ")


def test_a_network_of_unknown_history_claims_none(tmp_path):
    save_checkpoint(build(ARCHITECTURE), tmp_path / "model.safetensors")
    model = inspect(tmp_path / "model.safetensors")["model"]
    assert (model["loaded"], model["new"], model["random"]) == (None, None, None)
    assert model["trainable"] == model["parameters"]


def test_no_tensor_and_no_random_number_is_drawn(made):
    state = torch.get_rng_state()
    inspect(made[0])
    inspect(ARCHITECTURE)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [
        ("timm/test_vit", {"arguments": {"num_clases": 3}}, "takes no argument 'num_clases'"),
        ("timm/test_vit", {"key": "a"}, "is an architecture, which has no --key"),
        ("timm/test_vitt", {}, "there is no file timm/test_vitt, and no architectures component"),
    ],
)
def test_mistakes_are_named(name, keywords, message):
    with pytest.raises(InputError, match=message):
        inspect(name, **keywords)
