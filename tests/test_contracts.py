"""What the contract's dataclasses promise: every field is used, every value that the text names is taken."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import re
from pathlib import Path

import pytest
import torch

from zoo.api import Context, Data, Preprocessing, Weights
from zoo.data.open_data import open_data
from zoo.recipe.options import DataOptions

ROOT = Path(__file__).parent.parent
READ = {
    node.attr
    for path in (ROOT / "zoo").rglob("*.py")
    if path.relative_to(ROOT / "zoo").parts[0] != "testing"
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
}
AUTO = ("num_classes",)


@pytest.mark.parametrize("contract", [Data, Preprocessing, Weights, Context])
def test_every_field_is_read(contract):
    for field in dataclasses.fields(contract):
        by_name = contract is Context and field.name in AUTO  # read by the name of the parameter that is auto
        assert field.name in READ or by_name, f"{contract.__name__}.{field.name} is read nowhere"


def test_the_text_names_every_field_of_data():
    assert {field.name for field in dataclasses.fields(Data)} <= set(re.findall("`(\\w+)`", Data.__doc__))


IMAGE, VECTOR = torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(5)
INPUTS = {"image": IMAGE, "features": VECTOR}
TARGETS = {"classification": 1, "multilabel": [0.0, 1.0], "regression": 0.5}


@pytest.mark.parametrize(("inputs", "task"), list(itertools.product(INPUTS, TARGETS)))
def test_every_value_that_the_text_names_is_taken(inputs, task, monkeypatch):
    assert f'"{inputs}"' in Data.__doc__
    assert f'"{task}"' in Data.__doc__
    classes = () if task == "regression" else ("a", "b")
    data = Data([(INPUTS[inputs], TARGETS[task])] * 4, classes=classes, task=task, inputs=inputs)
    monkeypatch.setattr("zoo.data.open_data.registry.load", lambda *_: lambda: data)
    opened = open_data(DataOptions(source="some/data", image_size=8, batch_size=2))
    batch = next(opened.batches("train").epoch(0))
    assert batch.inputs.shape == (2, *INPUTS[inputs].shape)
    assert len(batch.targets) == 2


def test_every_quoted_value_is_one_that_is_taken():
    assert set(re.findall('"(\\w+)"', Data.__doc__)) == {*INPUTS, *TARGETS}
