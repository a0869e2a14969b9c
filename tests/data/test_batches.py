"""Batches in order: the same for a seed, from any batch on, in any process."""

from pathlib import Path

import pytest
import torch

from zoo.api import Preprocessing
from zoo.data.batches import Order, to_device
from zoo.data.open_data import open_data
from zoo.errors import InputError
from zoo.recipe.options import DataOptions

SMALL = Preprocessing(size=(16, 16))


def options(folder: Path, **values) -> DataOptions:
    return DataOptions(**{"source": "zoo/image_folder", "arguments": {"path": str(folder)}, "batch_size": 8} | values)


def gathered(batches, epoch: int = 0, start: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    found = list(batches.epoch(epoch, start))
    return tuple(torch.cat([batch[column] for batch in found]) for column in range(3))


def test_the_order_depends_on_seed_and_epoch_alone():
    order = Order(7, 3, seed=5, shuffle=True, rank=0, world=1)
    epochs = [[chunk.tolist() for chunk in order.epoch(epoch)] for epoch in (0, 1, 0)]
    assert epochs[0] == epochs[2] != epochs[1]
    assert [len(chunk) for chunk in epochs[0]] == [3, 3]  # batch norm cannot train on the seventh alone
    assert [chunk.tolist() for chunk in order.epoch(0, start=1)] == epochs[0][1:]
    assert len({index for batch in epochs[0] for index in batch}) == 6


def test_without_shuffling_every_sample_is_in_a_batch():
    order = Order(7, 3, seed=5, shuffle=False, rank=0, world=1)
    assert [chunk.tolist() for chunk in order.epoch(3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [order.size(index) for index in range(len(order))] == [3, 3, 1]


def test_processes_share_the_samples_of_a_batch():
    orders = [Order(8, 4, seed=0, shuffle=False, rank=rank, world=2) for rank in (0, 1)]
    assert [[chunk.tolist() for chunk in order.epoch(0)] for order in orders] == [[[0, 2], [4, 6]], [[1, 3], [5, 7]]]
    assert orders[0].size(0) == 4


def test_to_device_keeps_the_values():
    tensor = torch.arange(3)
    assert torch.equal(to_device(tensor, torch.device("cpu")), tensor)
    assert to_device(tensor, torch.device("meta")).is_meta


@pytest.mark.parametrize("augmentation", ["none", "flip", "crop_flip"])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_can_start_at_any_batch(folder, augmentation, workers):
    batches = open_data(options(folder, augmentation=augmentation, workers=workers), SMALL).batches("train")
    entire = list(batches.epoch(2))
    rest = list(batches.epoch(2, start=2))
    assert len(rest) == len(entire) - 2
    for mine, theirs in zip(rest, entire[2:], strict=True):
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
    entire, _, places = gathered(alone.batches("train"))
    for inputs, _, positions in shares:
        for image, position in zip(inputs, positions, strict=True):
            assert torch.equal(image, entire[places == position][0])


def test_a_last_batch_too_small_for_batch_norm_is_dropped(folder):
    data = open_data(options(folder, batch_size=14), SMALL)  # 29 samples
    assert len(data.batches("train")) == 2
    assert len(data.batches("train", batch_size=100)) == 1
    assert len(data.batches("train", batch_size=10, world=5)) == 2
    with pytest.raises(InputError, match="batch_size 4 is less than one sample for each of 5"):
        data.batches("train", batch_size=4, world=5)


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
    assert not torch.equal(gathered(data.batches("train", step=1))[2], places)


def test_a_step_with_a_seed_has_its_order_wherever_it_stands(folder):
    data = open_data(options(folder), SMALL)
    first, later = (gathered(data.batches("train", step=step, seed=5))[2] for step in (0, 3))
    assert torch.equal(first, later)
    assert not torch.equal(first, gathered(data.batches("train"))[2])


def test_the_split_has_a_seed_of_its_own_where_it_is_given_one(folder):
    first, other = (open_data(options(folder, split_seed=1), SMALL, seed=seed) for seed in (3, 4))
    assert first.parts["validation"].indices.tolist() == other.parts["validation"].indices.tolist()
    assert not torch.equal(gathered(first.batches("train"))[2], gathered(other.batches("train"))[2])


def test_validation_keeps_its_order_and_its_last_batch(folder):
    batches = open_data(options(folder, batch_size=3), SMALL).batches("validation")
    assert [batches.size(index) for index in range(len(batches))] == [3, 3, 1]
    assert gathered(batches)[2].tolist() == list(range(7))
