"""Which tensor of an output is the prediction: one answer, given to every part of zoo."""

from __future__ import annotations

import ast
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from zoo.errors import InputError
from zoo.model.prediction import auxiliary, prediction

TENSOR, OTHER = torch.zeros(2, 3), torch.ones(2, 3)
GoogLeNetOutputs = namedtuple("GoogLeNetOutputs", "logits aux_logits2 aux_logits1")
Fields = namedtuple("Fields", "first second")


@dataclass
class ModelOutput:
    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None


@pytest.mark.parametrize(
    "output",
    [
        TENSOR,
        (TENSOR, OTHER),
        (TENSOR, None),
        [TENSOR],
        GoogLeNetOutputs(TENSOR, OTHER, None),
        Fields(TENSOR, OTHER),
        {"logits": TENSOR, "out": OTHER},
        OrderedDict(out=TENSOR, aux=OTHER),
        {"scores": TENSOR},
        {"scores": TENSOR, "loss": None},
        {"loss": OTHER, "logits": (TENSOR, OTHER)},
        ModelOutput(logits=TENSOR),
        (ModelOutput(OTHER, TENSOR), 1),
    ],
    ids=lambda output: type(output).__name__,
)
def test_what_networks_return(output):
    assert prediction(output) is TENSOR


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ({"features": TENSOR, "scores": OTHER}, r"returns 2 outputs \(features, scores\)"),
        ({"loss": None}, "dict, in which there is no prediction"),
        ({}, "dict, in which there is no prediction"),
        ((), "tuple, in which there is no prediction"),
        ((None, TENSOR), "NoneType"),
        (ModelOutput(loss=OTHER), "ModelOutput"),
        ("nothing", "str, in which there is no prediction"),
        (None, "NoneType"),
    ],
)
def test_an_output_that_leaves_it_open_is_refused_with_its_keys(output, said):
    with pytest.raises(InputError, match=said) as caught:
        prediction(output)
    assert "under the key logits" in str(caught.value)


def test_hugging_faces_model_outputs():
    outputs = pytest.importorskip("transformers.modeling_outputs")
    assert prediction(outputs.ImageClassifierOutput(loss=OTHER, logits=TENSOR)) is TENSOR
    with pytest.raises(InputError, match="last_hidden_state, pooler_output"):
        prediction(outputs.BaseModelOutputWithPooling(last_hidden_state=TENSOR, pooler_output=OTHER))


def test_nobody_else_looks_for_logits():
    """A second answer to the question would name the key too."""
    for path in (Path(__file__).parents[2] / "zoo").rglob("*.py"):
        names = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
        names += [node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)]
        in_tensor_names = path.parent.name == "auto"  # words that the matcher knows
        assert "logits" not in names or path.name == "prediction.py" or in_tensor_names, path


@pytest.mark.parametrize(
    ("output", "count"),
    [
        (TENSOR, 0),
        ((TENSOR, OTHER), 1),
        ((TENSOR, None), 0),
        ((TENSOR, torch.ones(2, 7)), 0),  # features, not scores
        (GoogLeNetOutputs(TENSOR, OTHER, OTHER), 2),
        (GoogLeNetOutputs(TENSOR, None, OTHER), 1),
        (Fields(TENSOR, OTHER), 0),
        (OrderedDict(out=TENSOR, aux=OTHER), 1),
        ({"logits": TENSOR, "features": OTHER, "aux_logits": OTHER}, 1),
        (ModelOutput(OTHER, TENSOR), 0),
    ],
    ids=str,
)
def test_the_outputs_of_auxiliary_classifiers(output, count):
    found = auxiliary(output)
    assert [one is OTHER for one in found] == [True] * count
