"""Samples one by one and in batches, decoded once where they are cached, every broken one named."""

from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.api import Data, Preprocessing
from zoo.data.batches import loader_ended
from zoo.data.datasets import ListedSamples
from zoo.data.open_data import open_data
from zoo.data.samples import Fetcher, Samples, collate, stack
from zoo.errors import InputError, WorkError
from zoo.given import given
from zoo.recipe.options import DataOptions
from zoo.training.metrics import explain

SMALL = Preprocessing(size=(16, 16))


def options(folder: Path, **values) -> DataOptions:
    return DataOptions(**{"source": "zoo/image_folder", "arguments": {"path": str(folder)}, "batch_size": 8} | values)


def gathered(batches, epoch: int = 0, start: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    found = list(batches.epoch(epoch, start))
    return tuple(torch.cat([batch[column] for batch in found]) for column in range(3))


def features(**values) -> Samples:
    listed = ListedSamples([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [0, 2, 1])
    return Samples(listed, np.array([2, 0, 1]), None, **{"task": "classification", "outputs": 3} | values)


def test_a_sample_is_found_by_its_position():
    samples = features()
    assert len(samples) == 3
    assert samples.raw(0) == ([5.0, 6.0], 1)
    assert torch.equal(samples.fitted([5.0, 6.0]), torch.tensor([5.0, 6.0]))
    assert samples.target(1, 0).item() == 1


def test_classes_of_another_numbering():
    samples = features().renumbered([4, 0, 1], 5)
    assert [samples.target(value, 0).item() for value in (0, 1, 2)] == [4, 0, 1]
    with pytest.raises(InputError, match=r"sample 2: class index 3 is not one of 0..2"):
        samples.target(3, 0)
    many = features(task="multilabel").renumbered([4, 0, 1], 5)
    assert many.target([1.0, 0.0, 1.0], 0).tolist() == [0.0, 1.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize("cache", [True, False])
def test_a_batch_is_in_the_order_asked_for(cache):
    fetch = Fetcher(features(), cache)
    inputs, targets = fetch([1, 0, 1])
    assert inputs.tolist() == [[1.0, 2.0], [5.0, 6.0], [1.0, 2.0]]
    assert targets.tolist() == [0, 1, 0]


def test_a_failing_data_set_names_the_sample():
    class Failing(list):
        def __getitem__(self, index):
            raise KeyError(index)

    samples = Samples(Failing([1]), np.array([0]), None, "classification", 1)
    with pytest.raises(WorkError, match="fails at sample 0: KeyError: 0"):
        samples.raw(0)


def test_errors_of_a_worker_are_handed_on():
    sample = (torch.zeros(2), torch.tensor(1))
    error = InputError("image a.png is empty")
    assert collate([sample, error]) == [error]
    assert [tensor.shape for tensor in collate([sample, sample])] == [(2, 2), (2,)]
    (mixed,) = collate([sample, (torch.zeros(3), torch.tensor(1))])
    assert "samples differ in shape" in str(mixed)
    with pytest.raises(InputError, match=r"input and target \[\[2\], \[\]\] or \[\[3\], \[\]\]"):
        stack([sample, (torch.zeros(3), torch.tensor(1))])


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


NO_INDEX = r"sample 1: its target .* is no class index \(a target is 0, 1, …[;:]"


@pytest.mark.parametrize(
    "target", [None, "a", 0.5, float("nan"), -1, [0.0, 0.9], torch.tensor([1, 1]), np.float32(0.5)]
)
def test_what_is_no_class_index_is_named_by_sample(monkeypatch, target):
    image = torch.zeros(3, 4, 4, dtype=torch.uint8)
    data = Data([(image, 0), (image, target), (image, 1)], classes=("a", "b"))
    with given({"datasets": {"python:x": lambda: data}}), pytest.raises(InputError, match=NO_INDEX):
        open_data(DataOptions(source="python:x"), SMALL)
    with pytest.raises(InputError, match=NO_INDEX):
        Samples(data.train, np.array([1]), SMALL, "classification", 2).target(target, 0)


def test_a_soft_target_among_class_indices_is_named():
    image = torch.zeros(3, 4, 4, dtype=torch.uint8)
    data = Data([(image, 0), (image, [0.2, 0.8]), (image, 1)], classes=("a", "b"))
    with given({"datasets": {"python:x": lambda: data}}), pytest.raises(InputError, match=NO_INDEX):
        open_data(DataOptions(source="python:x"), SMALL)


def test_soft_targets_are_probabilities_that_add_up_to_1():
    samples = Samples([(0, [0.33, 0.33, 0.33])], np.array([0]), None, "classification", 3)
    taken = samples.target([0.33, 0.33, 0.33], 0)
    assert (taken.dtype, taken.sum().item()) == (torch.float32, pytest.approx(1))
    wider = samples.renumbered([2, 0, 4], 5)
    assert wider.target([0.5, 0.25, 0.25], 0).tolist() == [0.25, 0.0, 0.5, 0.0, 0.25]
    assert torch.equal(samples.every_target(), taken[None])


@pytest.mark.parametrize("target", [1, True, 1.0, np.int64(1), np.float32(1), torch.tensor(1), np.array(1)])
def test_class_indices_of_any_type(target):
    taken = Samples([(0, target)], np.array([0]), None, "classification", 2).target(target, 0)
    assert (taken.item(), taken.dtype) == (1, torch.int64)


@pytest.mark.parametrize(
    ("task", "target", "message"),
    [
        ("regression", [1.0, float("nan")], "contains what is no number"),
        ("regression", [1.0], "has 1 values, not 2"),
        ("regression", "high", "is no vector of numbers"),
        ("multilabel", [0.0, 2.0], r"is outside 0\.\.1 \(a multi-label target"),
    ],
)
def test_numbers_that_are_no_target_are_named_by_sample(task, target, message):
    with pytest.raises(InputError, match=rf"sample 5: its target .*{message}"):
        Samples([], np.array([5]), None, task, 2).target(target, 0)


def test_a_loader_process_that_the_system_ends_ends_the_run_with_a_message(folder):
    """torch raises this from a signal handler: killing a process here could fail any other test."""
    batches = open_data(options(folder, augmentation="crop_flip", workers=0), SMALL).batches("train", batch_size=2)
    killed = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")

    def ends():
        yield stack([(torch.zeros(3, 16, 16, dtype=torch.uint8), torch.tensor(0))] * 2)
        raise killed

    batches._loader = ends()
    with pytest.raises(WorkError, match=r"ended by the system, .*--set data.workers=1"):
        list(batches.epoch(0))
    assert str(explain(killed, "train")) == str(loader_ended(killed))
    assert len(gathered(batches)[0]) == 28  # the next epoch starts new ones
