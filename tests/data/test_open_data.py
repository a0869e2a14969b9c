"""Opening data end to end: splits, limits, batches in order and in any process, caches, broken samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zoo import registry
from zoo.api import Data, Preprocessing
from zoo.data import open_data as open_data_module
from zoo.data.datasets import ListedSamples
from zoo.data.open_data import open_data
from zoo.errors import InputError, WorkError
from zoo.recipe.options import DataOptions

SMALL = Preprocessing(size=(16, 16))


def options(folder: Path, **values) -> DataOptions:
    return DataOptions(**{"source": "zoo/image_folder", "arguments": {"path": str(folder)}, "batch_size": 8} | values)


def gathered(batches, epoch: int = 0, start: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    found = list(batches.epoch(epoch, start))
    return tuple(torch.cat([batch[column] for batch in found]) for column in range(3))


def test_split_is_stratified_seeded_and_complete(folder):
    data = open_data(options(folder, validation_fraction=0.25), SMALL, seed=3)
    train, validation = data.parts["train"].indices, data.parts["validation"].indices
    assert sorted([*train, *validation]) == list(range(36))
    targets = np.array(data.parts["train"].dataset.targets)
    assert np.bincount(targets[validation]).tolist() == [3, 3, 3]
    again = open_data(options(folder, validation_fraction=0.25), SMALL, seed=3)
    assert np.array_equal(again.parts["train"].indices, train)
    other = open_data(options(folder, validation_fraction=0.25), SMALL, seed=4)
    assert not np.array_equal(other.parts["train"].indices, train)
    assert (data.classes, data.task, data.outputs) == (("one", "two", "zero"), "classification", 3)


def test_a_test_part_is_held_out_where_it_is_asked_for(folder):
    plain = open_data(options(folder, validation_fraction=0.25), SMALL, seed=3)
    data = open_data(options(folder, validation_fraction=0.25, test_fraction=0.25), SMALL, seed=3)
    assert list(plain.parts) == ["train", "validation"]
    assert list(data.parts) == ["train", "validation", "test"]
    assert np.array_equal(data.parts["validation"].indices, plain.parts["validation"].indices)
    assert sorted(i for part in data.parts.values() for i in part.indices) == list(range(36))
    targets = np.array(data.parts["train"].dataset.targets)
    assert [np.bincount(targets[part.indices]).tolist() for part in data.parts.values()] == [[6] * 3, [3] * 3, [3] * 3]
    assert {key: data.summary()[key] for key in data.parts} == {"train": 18, "validation": 9, "test": 9}
    limited = open_data(options(folder, validation_fraction=0.25, test_fraction=0.25, limit=10), SMALL)
    assert [len(part) for part in limited.parts.values()] == [10, 5, 5]
    with pytest.raises(InputError, match=r"data.validation_fraction 0.5 and data.test_fraction 0.5 leave nothing"):
        open_data(options(folder, validation_fraction=0.5, test_fraction=0.5), SMALL)


def test_a_data_sets_own_test_part_and_all_of_it(folder, monkeypatch):
    image = Image.new("RGB", (8, 8))
    one, three = (ListedSamples([image] * count, [0] * count) for count in (1, 3))
    supply(monkeypatch, Data(three, classes=["a", "b"], test=one, notes=["said"]))
    data = open_data(DataOptions(source="x", test_fraction=0.5), SMALL)
    assert {part: len(data.parts[part]) for part in data.parts} == {"train": 2, "validation": 1, "test": 1}
    assert data.notes == (
        "data: classification, 2 classes: a 2+1+1, b 0+0+0; 2 train + 1 validation + 1 test; "
        "validation is 20% of the training samples, drawn at random, stratified",
        "said",
    )
    assert data.batches("test").order.shuffle is False
    whole = open_data(DataOptions(source="x"), SMALL, whole=True)
    assert {part: len(whole.parts[part]) for part in whole.parts} == {"train": 3, "test": 1}
    supply(monkeypatch, Data(one, classes=["a"]))
    assert len(open_data(DataOptions(source="x"), SMALL, whole=True).parts["train"]) == 1


def test_limit_keeps_the_classes_in_proportion(folder):
    data = open_data(options(folder, limit=9), SMALL)
    targets = np.array(data.parts["train"].dataset.targets)
    assert len(data.parts["train"]) == 9
    assert sorted(np.bincount(targets[data.parts["train"].indices])) in ([3, 3, 3], [2, 3, 4])
    assert len(data.parts["validation"]) == 2


def test_the_cache_keeps_to_its_budget(folder, monkeypatch):
    monkeypatch.setattr(open_data_module, "_free_memory", lambda: 4 * 36 * 3 * 16 * 16 - 4)
    data = open_data(options(folder), SMALL)
    assert not data.batches("train").fetcher.cache
    monkeypatch.setattr(open_data_module, "_free_memory", lambda: 4 * 36 * 3 * 16 * 16)
    assert open_data(options(folder), SMALL).batches("train").fetcher.cache
    assert not open_data(options(folder, augmentation="crop_flip"), SMALL).batches("train").fetcher.cache


def test_grey_networks_get_one_channel(folder):
    grey = Preprocessing(size=(16, 16), mean=(0.5,), std=(0.5,), channels=1)
    inputs, _, _ = gathered(open_data(options(folder), grey).batches("train"))
    assert inputs.shape[1] == 1


def supply(monkeypatch, data) -> None:
    def component(**_):
        if isinstance(data, Exception):
            raise data
        return data

    row = registry.Component("x", "datasets", "x", "zoo-x", "1.0", "x:x")
    monkeypatch.setattr(registry, "resolve", lambda name, kind: row)
    monkeypatch.setattr(registry, "load", lambda *_: component)


def test_features_pass_as_they_are(monkeypatch):
    features = torch.randn(20, 5)
    supply(monkeypatch, Data(ListedSamples(list(features), [0.5] * 20), task="regression", inputs="features"))
    data = open_data(DataOptions(source="x"))
    inputs, targets, places = gathered(data.batches("train"))
    assert torch.equal(inputs, features[data.parts["train"].indices][places])
    assert (targets.shape, targets.dtype, data.outputs) == ((16, 1), torch.float32, 1)
    with pytest.raises(InputError, match=r"remove data.augmentation"):
        open_data(DataOptions(source="x", augmentation="flip"))


def test_multilabel_targets(monkeypatch):
    image = Image.new("RGB", (8, 8))
    supply(monkeypatch, Data(ListedSamples([image] * 6, [[1, 0, 1]] * 6), classes=("a", "b", "c"), task="multilabel"))
    data = open_data(DataOptions(source="x"), SMALL)
    assert gathered(data.batches("train"))[1].tolist() == [[1.0, 0.0, 1.0]] * 5
    assert data.context.num_classes == 3


@dataclass
class Failing:
    error: Exception

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int):
        raise self.error


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (TypeError("csv() got an unexpected keyword"), WorkError, "x cannot be opened: TypeError: csv"),
        (OSError("no route"), WorkError, "x cannot be opened: OSError: no route"),
        ("text", WorkError, "returned str, expected zoo.api.Data"),
        (Data([(1, 2)], task="ranking"), InputError, "unknown task 'ranking'"),
        (Data(ListedSamples([], [])), InputError, "contains no samples"),
        (Data(ListedSamples([1], [0])), InputError, "too few to hold some out"),
        (Data(Failing(KeyError("k")), [(1, 0)], classes=["a"]), WorkError, "fails at sample 0: KeyError: 'k'"),
        (
            Data([(torch.zeros(3, 4, 4, dtype=torch.uint8), 7)] * 4, classes=["a", "b"]),
            InputError,
            "sample 0: class index 7 is not one of 0..1",
        ),
    ],
)
def test_misbehaving_data_sets(monkeypatch, data, error, message):
    supply(monkeypatch, data)
    with pytest.raises(error, match=message):
        gathered(open_data(DataOptions(source="x"), SMALL).batches("train"))
