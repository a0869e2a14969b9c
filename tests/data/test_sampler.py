"""`sampler: balanced`: classes equally likely, by seed and epoch alone, the same for any batches and processes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo.data.batches import Order
from zoo.data.sampler import balanced_chances, epoch_of
from zoo.errors import InputError

TARGETS = torch.tensor([0] * 900 + [2] * 100)


def order(batch_size=50, rank=0, world=1, seed=3) -> Order:
    chances = balanced_chances(TARGETS, "classification")
    return Order(1000, batch_size, seed=seed, shuffle=True, rank=rank, world=world, chances=chances)


def test_the_chances_are_those_of_a_weighted_random_sampler():
    chances = balanced_chances(TARGETS, "classification")
    assert chances[:900] == pytest.approx(0.5 / 900)
    assert chances[900:] == pytest.approx(0.5 / 100)
    soft = torch.nn.functional.one_hot(TARGETS, 3) * 0.7 + 0.1
    assert np.array_equal(balanced_chances(soft, "classification"), chances)


def test_an_epoch_draws_classes_evenly_and_every_epoch_anew():
    drawn = [np.concatenate(order().epoch(epoch)) for epoch in range(40)]
    shares = np.bincount(np.concatenate(drawn) >= 900) / 40_000
    assert shares == pytest.approx([0.5, 0.5], abs=0.01)  # four standard deviations
    assert not np.array_equal(drawn[0], drawn[1])
    assert all(len(one) == 1000 for one in drawn)
    assert len(np.unique(drawn[0][drawn[0] < 900])) < 500  # with replacement


def test_it_goes_by_seed_and_epoch_alone():
    whole = np.concatenate(order().epoch(7))
    assert np.array_equal(np.concatenate(order(batch_size=64).epoch(7)), whole)
    assert np.array_equal(np.concatenate(order().epoch(7, start=5)), whole[250:])
    halves = [order(rank=rank, world=2).epoch(7) for rank in (0, 1)]
    joined = [np.stack(pair, 1).reshape(-1) for pair in zip(*halves, strict=True)]
    assert np.array_equal(np.concatenate(joined), whole)


def test_each_draw_has_a_place_of_its_own():
    places = order(rank=1, world=2).draws(0)
    assert sorted(np.concatenate(places)) == list(range(1, 1000, 2))
    assert Order(10, 5, seed=0, shuffle=True, rank=0, world=1).draws(0) is None


def test_what_is_not_shuffled_is_not_drawn():
    plain = Order(4, 2, seed=0, shuffle=False, rank=0, world=1, chances=np.array([1.0, 0, 0, 0]))
    assert np.concatenate(plain.epoch(0)).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("task", "hint"), [("multilabel", "class_weights: balanced"), ("regression", "remove sam")])
def test_other_tasks_are_refused_with_the_reason(task, hint):
    with pytest.raises(InputError, match=hint):
        balanced_chances(torch.zeros(2, 2), task)


def test_an_epoch_in_words():
    said = epoch_of([10, 990, 0], ("rare", "usual", "none"))
    assert said == (
        "an epoch is 1,000 draws with replacement, about 500 of each of 2 classes: each of the 10 samples of 'rare' "
        "about 50 times, each of the 990 samples of 'usual' about 0.51 times"
    )
