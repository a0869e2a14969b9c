"""Batches of features: in the images' own order, views in turn, and keys that change with what features depend on."""

import numpy as np
import pytest
import torch
from torch import nn

from zoo.data.batches import ImageBatches, Order
from zoo.data.datasets import ListedSamples
from zoo.data.samples import Fetcher, Samples
from zoo.model.freezing import freeze
from zoo.training.trunk.batches import FeatureBatches, StreamedBatches, collect, features_key
from zoo.training.trunk.engine import Engine, EngineSettings, exact_engine
from zoo.training.trunk.split import split
from zoo.training.trunk.store import FeatureCache, Features

CPU = torch.device("cpu")


def data(values=None, targets=None) -> Samples:
    values = torch.arange(20.0).reshape(10, 2) if values is None else values
    listed = ListedSamples([row.tolist() for row in values], targets or [n % 2 for n in range(10)])
    return Samples(listed, np.arange(10), None, "classification", 2)


def batches(samples: Samples, batch_size: int = 4, **values) -> ImageBatches:
    order = Order(len(samples), batch_size, **{"seed": 0, "shuffle": False, "rank": 0, "world": 1} | values)
    return ImageBatches(Fetcher(samples, cache=False), order, augmentation="none", device=CPU, workers=0)


@pytest.fixture
def engine() -> Engine:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).train()
    freeze(model, ["0"])
    return exact_engine(split(model, torch.randn(4, 2)).trunk)


def test_collected_features_are_the_backbones_outputs(engine, tmp_path):
    cache, seen = FeatureCache(tmp_path), []
    features = collect(engine, batches(data()), 0, key="k", cache=cache, progress=seen.append)
    (values,), targets = features.everything()
    assert seen == [4, 4, 2]
    assert torch.equal(values, engine(torch.arange(20.0).reshape(10, 2))[0])
    assert targets.tolist() == [0, 1] * 5
    again = collect(engine, None, 0, key="k", cache=cache)  # found: no batch is needed
    assert torch.equal(again.everything()[0][0], values)


def test_nothing_of_a_pass_that_fails_is_left(engine, tmp_path):
    class Failing:
        def epoch(self, view):
            yield from list(batches(data()).epoch(0))[:1]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(engine, Failing(), 0, key="k", cache=FeatureCache(tmp_path))
    assert list((tmp_path / "features").iterdir()) == []


def test_feature_batches_have_the_order_of_the_images():
    order = Order(10, 4, seed=7, shuffle=True, rank=0, world=1)
    views = [
        Features([{"feature_00": torch.arange(10) + offset, "targets": torch.arange(10)}], 10) for offset in (0, 50)
    ]
    made = FeatureBatches(views, order, CPU)
    assert [made.size(index) for index in range(len(made))] == [4, 4, 2]
    for epoch, offset in ((0, 0), (1, 50), (2, 0)):  # the views in turn
        found = list(made.epoch(epoch))
        assert [batch.positions.tolist() for batch in found] == [chunk.tolist() for chunk in order.epoch(epoch)]
        assert all(torch.equal(batch.inputs[0], batch.positions + offset) for batch in found)
        assert all(torch.equal(batch.targets, batch.positions) for batch in found)
    assert [batch.positions.tolist() for batch in made.epoch(0, start=2)] == [order.epoch(0)[2].tolist()]


def test_streamed_batches_run_the_backbone_on_each(engine):
    images = batches(data())
    streamed = StreamedBatches(images, engine)
    assert (len(streamed), streamed.size(2)) == (3, 2)
    for mine, plain in zip(streamed.epoch(0), images.epoch(0), strict=True):
        assert torch.equal(mine.inputs[0], engine(plain.inputs)[0])
        assert torch.equal(mine.positions, plain.positions)


def test_the_key_changes_with_whatever_features_depend_on(engine):
    samples = data()
    key = features_key(engine, samples, batches(samples), 0)
    assert key == features_key(engine, data(), batches(data()), 0)
    other = data(torch.arange(20.0).reshape(10, 2) + 1)
    targets = data(targets=[1] * 10)
    half = Engine(engine.trunk, EngineSettings("bfloat16"))
    channels_last = Engine(engine.trunk, EngineSettings(channels_last=True))
    others = [
        features_key(engine, other, batches(other), 0),
        features_key(engine, targets, batches(targets), 0),
        features_key(half, samples, batches(samples), 0),
        features_key(channels_last, samples, batches(samples), 0),
        features_key(engine, samples, batches(samples, rank=1, world=2), 0),
    ]
    with torch.no_grad():
        next(engine.trunk.parameters()).add_(1)
    others.append(features_key(engine, samples, batches(samples), 0))
    assert len({key, *others}) == 7


def test_without_augmentation_seed_and_view_do_not_matter(engine):
    samples = data()
    keys = {features_key(engine, samples, batches(samples, seed=seed), view) for seed, view in ((0, 0), (1, 1))}
    assert len(keys) == 1


def test_a_device_s_features_are_its_own(engine, monkeypatch):
    """Machines that share a cache may have other processors, whose results differ in the last digits."""
    samples, keys = data(), set()
    for device, model in (("cpu", "one"), ("cpu", "another"), ("meta", "one")):
        monkeypatch.setattr("zoo.training.devices._processor", lambda model=model: model)
        images = batches(samples)
        images.device = torch.device(device)
        keys.add(features_key(engine, samples, images, 0))
    assert len(keys) == 3
