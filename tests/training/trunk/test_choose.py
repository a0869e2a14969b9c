"""The precision of a frozen backbone goes by answers, by what the device computes in, and by the recipe."""

import pytest
import torch
from torch import nn

from zoo.data.open_data import open_data
from zoo.recipe.options import DataOptions
from zoo.training.trunk import choose
from zoo.training.trunk.choose import Speed, choose_engine
from zoo.training.trunk.prepare import example_batch, split_for

CPU = torch.device("cpu")


class Cancels(nn.Module):
    """The difference of two large, nearly equal numbers: nothing is left of it in bfloat16."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 32)

    def forward(self, x):
        return self.linear(x + 100) - self.linear(x.new_full(x.shape, 100.0))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def native(monkeypatch):
    monkeypatch.setattr(choose, "bfloat16_is_native", lambda device: True)


@pytest.fixture
def data():
    return open_data(DataOptions(source="sklearn/digits", image_size=8, limit=200))


def chosen(data, backbone, speed=None):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 1, 1), nn.Flatten(), backbone, nn.ReLU(), nn.Linear(32, 10))
    for part in model[:4]:
        part.requires_grad_(False)
    example = example_batch(data, CPU)
    parts = split_for(model, example, training=False)
    engine, comparison = choose_engine(model, parts, data, example, speed or Speed())
    assert not model[4]._forward_pre_hooks
    return engine.settings.precision, comparison


def test_features_whose_answers_stay_are_bfloat16(data, native):
    torch.manual_seed(0)
    precision, found = chosen(data, nn.Linear(64, 32))
    assert (precision, found.precision) == ("bfloat16", "bfloat16")
    assert 0 < found.distance < 0.02


def test_features_whose_answers_change_are_float32(data, native):
    torch.manual_seed(0)
    precision, found = chosen(data, Cancels())
    assert precision == "float32"
    assert found.changed > 0.1


def test_a_later_run_finds_the_comparison(data, native, monkeypatch):
    layer = nn.Linear(64, 32)
    before = chosen(data, layer)
    monkeypatch.setattr(choose, "compare", None)
    assert chosen(data, layer) == before


@pytest.mark.parametrize(("asked", "exact"), [("auto", True), ("mixed", False), ("float32", False), ("bfloat16", True)])
def test_what_is_asked_for_is_not_compared(data, native, asked, exact):
    expected = "float32" if asked == "auto" else asked
    assert chosen(data, nn.Linear(64, 32), Speed(exact, asked)) == (expected, None)


def test_without_bfloat16_units_nothing_is_compared(data, monkeypatch):
    monkeypatch.setattr(choose, "bfloat16_is_native", lambda device: False)
    assert chosen(data, nn.Linear(64, 32)) == ("float32", None)


def test_few_images_are_not_worth_a_comparison(native):
    few = open_data(DataOptions(source="sklearn/digits", image_size=8, limit=20))
    assert chosen(few, nn.Linear(64, 32)) == ("float32", None)
