"""`model.zoo`: what is known about a model, and about its copies."""

import copy
import io
import pickle

import pytest
import torch

import zoo
from zoo.model.info import ModelInfo, assembly_of, info_of


@pytest.fixture
def model():
    return zoo.build("timm/test_resnet", num_classes=3)


def test_it_says_how_the_model_was_made(model):
    assert isinstance(model.zoo, ModelInfo)
    assert model.zoo.architecture == "timm/test_resnet"
    assert model.zoo.arguments == {"num_classes": 3}
    assert (model.zoo.operations, model.zoo.frozen, model.zoo.task) == ((), (), "classification")
    assert model.zoo.preprocessing.size == (160, 160)


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
    ids=["copy", "deep", "pickle"],
)
def test_a_copy_knows_itself_not_the_original(model, copied):
    other = copied(model)
    assert other.zoo == model.zoo
    assembly = assembly_of(other, info_of(other))
    assert assembly.model is other
    assembly.arguments["num_classes"] = 7
    assert model.zoo.arguments == {"num_classes": 3}


def test_it_is_no_part_of_the_state_dict(model):
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    assert "zoo" not in dict(model.named_modules())
    assert not [name for name in model.state_dict() if "zoo" in name]


def test_a_model_of_ones_own_has_none():
    assert info_of(torch.nn.Linear(1, 1)) is None
