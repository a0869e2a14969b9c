"""The key of cached features: it changes with everything that features depend on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import fx, nn

from zoo.data.open_data import open_data
from zoo.recipe.options import DataOptions
from zoo.training.trunk import batches as batches_module
from zoo.training.trunk.batches import features_key
from zoo.training.trunk.engine import Engine, EngineSettings


@pytest.fixture(scope="module")
def data():
    return open_data(DataOptions(source="sklearn/digits", limit=8, workers=0))


@pytest.fixture
def engine():
    torch.manual_seed(0)
    return Engine(fx.symbolic_trace(nn.Conv2d(3, 2, 3)), EngineSettings())


def key(engine, data, **how):
    return features_key(engine, data.parts["train"], data.batches("train", **how), 0)


def test_the_same_has_the_same_key(engine, data):
    assert key(engine, data) == key(engine, data)


def test_a_device_s_features_are_its_own(engine, data, monkeypatch):
    here = key(engine, data)
    assert key(engine, data, device="meta") != here
    monkeypatch.setattr(batches_module, "hardware", lambda device: f"{device.type} another model")
    assert key(engine, data) != here


@pytest.mark.parametrize("change", [{"dtype": "bfloat16"}, {"fused": 1}, {"channels_last": True}])
def test_how_the_backbone_runs_is_in_the_key(engine, data, change):
    here = key(engine, data)
    assert key(Engine(engine.trunk, replace(engine.settings, **change)), data) != here


def test_weights_are_in_the_key(engine, data):
    here = key(engine, data)
    with torch.no_grad():
        next(engine.trunk.parameters()).view(-1)[0] += 1
    assert key(engine, data) != here
