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
from zoo.data import split
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


def test_split_is_stratified_seeded_and_whole(folder):
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


def test_limit_keeps_the_classes_in_proportion(folder):
    data = open_data(options(folder, limit=9), SMALL)
    targets = np.array(data.parts["train"].dataset.targets)
    assert len(data.parts["train"]) == 9
    assert sorted(np.bincount(targets[data.parts["train"].indices])) in ([3, 3, 3], [2, 3, 4])
    assert len(data.parts["validation"]) == 2


def test_training_batches_are_shuffled_anew_each_epoch_and_the_same_for_a_seed(folder):
    data = open_data(options(folder), SMALL)
    batches = data.batches("train")
    inputs, targets, places = gathered(batches)
    assert inputs.shape == (29, 3, 16, 16)
    assert sorted(places.tolist()) == list(range(29))
    assert torch.equal(
        targets, torch.tensor([data.parts["train"].dataset.targets[i] for i in data.parts["train"].indices])[places]
    )
    assert not torch.equal(gathered(batches, 1)[2], places)
    again = open_data(options(folder), SMALL).batches("train")
    for mine, theirs in zip(gathered(batches, 5), gathered(again, 5), strict=True):
        assert torch.equal(mine, theirs)
    assert not torch.equal(gathered(data.batches("train", stage=1))[2], places)


def test_validation_keeps_its_order_and_its_last_batch(folder):
    batches = open_data(options(folder, batch_size=3), SMALL).batches("validation")
    assert [batches.size(index) for index in range(len(batches))] == [3, 3, 1]
    assert gathered(batches)[2].tolist() == list(range(7))


@pytest.mark.parametrize("augmentation", ["none", "flip", "crop_flip"])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_can_start_at_any_batch(folder, augmentation, workers):
    batches = open_data(options(folder, augmentation=augmentation, workers=workers), SMALL).batches("train")
    whole = list(batches.epoch(2))
    rest = list(batches.epoch(2, start=2))
    assert len(rest) == len(whole) - 2
    for mine, theirs in zip(rest, whole[2:], strict=True):
        assert torch.equal(mine.inputs, theirs.inputs)


@pytest.mark.parametrize("augmentation", ["none", "flip", "randaugment", "trivial"])
def test_workers_and_processes_change_nothing(folder, augmentation):
    alone = open_data(options(folder, augmentation=augmentation, workers=0, cache="off"), SMALL)
    threaded = open_data(options(folder, augmentation=augmentation, workers=2, cache="memory"), SMALL)
    for epoch in (0, 1):
        mine, theirs = alone.batches("train"), threaded.batches("train")
        for left, right in zip(gathered(mine, epoch), gathered(theirs, epoch), strict=True):
            assert torch.equal(left, right)
    shares = [gathered(threaded.batches("train", rank=rank, world=2)) for rank in (0, 1)]
    order = torch.cat([share[2] for share in shares])
    assert sorted(order.tolist()) == sorted(gathered(alone.batches("train"))[2].tolist())
    whole, _, places = gathered(alone.batches("train"))
    for inputs, _, positions in shares:
        for image, position in zip(inputs, positions, strict=True):
            assert torch.equal(image, whole[places == position][0])


def test_a_last_batch_too_small_for_batch_norm_is_dropped(folder):
    data = open_data(options(folder, batch_size=14), SMALL)  # 29 samples
    assert len(data.batches("train")) == 2
    assert len(data.batches("train", batch_size=100)) == 1
    assert len(data.batches("train", batch_size=10, world=5)) == 2
    with pytest.raises(InputError, match="batch_size 4 cannot be dealt out to 5"):
        data.batches("train", batch_size=4, world=5)


def test_cached_pixels_are_decoded_once(folder, monkeypatch):
    from zoo.data import samples

    count = []
    real = samples.to_image
    monkeypatch.setattr(samples, "to_image", lambda *arguments: count.append(1) or real(*arguments))
    batches = open_data(options(folder), SMALL).batches("train")
    first, second = gathered(batches, 0), gathered(batches, 1)
    assert len(count) == 29
    assert torch.equal(first[0][first[2].argsort()], second[0][second[2].argsort()])
    count.clear()
    batches = open_data(options(folder, cache="off"), SMALL).batches("train")
    gathered(batches, 0), gathered(batches, 1)
    assert len(count) == 58


def test_what_comes_once_is_not_kept_but_may_have_been(folder, monkeypatch):
    from zoo.data import samples

    count = []
    real = samples.to_image
    monkeypatch.setattr(samples, "to_image", lambda *arguments: count.append(1) or real(*arguments))
    data = open_data(options(folder), SMALL)
    once = gathered(data.batches("train", shuffle=False, once=True))
    gathered(data.batches("train", once=True))
    assert len(count) == 58
    kept = gathered(data.batches("train", shuffle=False))
    again = gathered(data.batches("train", shuffle=False, once=True))
    assert len(count) == 87
    for one, other, third in zip(once, kept, again, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, third)


def test_the_cache_may_be_filled_while_measuring(folder):
    data = open_data(options(folder, workers=0), SMALL)
    with torch.inference_mode():
        next(data.batches("train").epoch(0))
    inputs = gathered(data.batches("train"))[0]
    assert not inputs.is_inference()
    assert len(inputs) == 29


def test_the_cache_keeps_to_its_budget(folder, monkeypatch):
    monkeypatch.setattr(open_data_module, "_free_memory", lambda: 4 * 36 * 3 * 16 * 16 - 4)
    data = open_data(options(folder), SMALL)
    assert not data.batches("train").fetcher.remember
    monkeypatch.setattr(open_data_module, "_free_memory", lambda: 4 * 36 * 3 * 16 * 16)
    assert open_data(options(folder), SMALL).batches("train").fetcher.remember
    assert not open_data(options(folder, augmentation="crop_flip"), SMALL).batches("train").fetcher.remember


@pytest.mark.parametrize("augmentation", ["none", "crop_flip"])
@pytest.mark.parametrize("workers", [0, 2])
def test_every_broken_image_is_named(folder, augmentation, workers):
    for name in ("one/01.png", "two/02.jpg"):
        (folder / name).write_bytes(b"\x89PNG broken")
    data = open_data(options(folder, validation_fraction=0.03, augmentation=augmentation, workers=workers), SMALL)
    with pytest.raises(InputError) as caught:
        gathered(data.batches("train"))
    assert ["one/01.png" in str(caught.value), "two/02.jpg" in str(caught.value)] == [True, True]
    assert "Traceback" not in str(caught.value)


def test_grey_networks_get_one_channel(folder):
    grey = Preprocessing(size=(16, 16), mean=(0.5,), std=(0.5,), channels=1)
    inputs, _, _ = gathered(open_data(options(folder), grey).batches("train"))
    assert inputs.shape[1] == 1


def supply(monkeypatch, data) -> None:
    def component(**_):
        if isinstance(data, Exception):
            raise data
        return data

    monkeypatch.setattr(registry, "load", lambda name, kind: component)


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
        (TypeError("csv() got an unexpected keyword"), InputError, "data set x: csv"),
        (OSError("no route"), WorkError, "data set x cannot be opened: OSError: no route"),
        ("text", InputError, "gave a str, not zoo.api.Data"),
        (Data([(1, 2)], task="ranking"), InputError, "unknown task 'ranking'"),
        (Data(ListedSamples([], [])), InputError, "holds no samples"),
        (Data(ListedSamples([1], [0])), InputError, "too few to hold some out"),
        (Data(Failing(KeyError("k")), [(1, 0)], classes=["a"]), WorkError, "fails at sample 0: KeyError: 'k'"),
        (
            Data([(torch.zeros(3, 4, 4, dtype=torch.uint8), 7)] * 4, classes=["a"]),
            InputError,
            "sample 0: class index 7 is not one of 0..0",
        ),
    ],
)
def test_misbehaving_data_sets(monkeypatch, data, error, message):
    supply(monkeypatch, data)
    with pytest.raises(error, match=message):
        gathered(open_data(DataOptions(source="x"), SMALL).batches("train"))


def test_spread_begins_in_proportion():
    strata = [0] * 10 + [1] * 50 + [2] * 40
    order = split.spread(strata, 100, seed=0)
    assert sorted(order) == list(range(100))
    for size in (10, 20, 50):
        assert np.bincount(np.array(strata)[order[:size]]).tolist() == [size // 10, size // 2, size * 4 // 10]


@pytest.mark.parametrize("targets", [[3, 1], torch.tensor([3, 1]), np.array([3, 1])])
def test_targets_come_from_the_data_sets_own_list(targets):
    samples = ListedSamples(["a", "b"], targets)
    assert split.targets_of(samples) == [3, 1]
    assert split.targets_of([("a", 3), ("b", 1)]) == [3, 1]
