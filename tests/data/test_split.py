"""Stratified orders, what is held out, and where targets come from."""

import numpy as np
import pytest
import torch

from zoo.data import split
from zoo.data.datasets import ListedSamples
from zoo.errors import InputError, WorkError


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


def test_an_order_without_strata_is_seeded():
    assert split.spread(None, 20, seed=1).tolist() == split.spread(None, 20, seed=1).tolist()
    assert sorted(split.spread(None, 20, seed=1)) == list(range(20))
    assert split.spread(None, 20, seed=1).tolist() != split.spread(None, 20, seed=2).tolist()


@pytest.mark.parametrize(("fraction", "count"), [(0.25, 2), (0.01, 1), (1.0, 7)])
def test_the_first_of_the_order_are_held_out(fraction, count):
    order = np.array([5, 2, 7, 0, 1, 3, 4, 6])
    train, held_out = split.hold_out(order, fraction)
    assert held_out.tolist() == sorted(order[:count])
    assert train.tolist() == sorted(order[count:])


def test_a_target_transform_is_applied_and_a_list_of_another_length_is_not_trusted():
    class Transformed(ListedSamples):
        target_transform = staticmethod(lambda target: target + 1)

        def __getitem__(self, index):
            value, target = super().__getitem__(index)
            return value, self.target_transform(target)

    assert split.targets_of(Transformed(["a", "b"], [3, 1])) == [4, 2]


def test_reading_names_the_sample_that_fails():
    with pytest.raises(WorkError, match="fails at sample 3: IndexError"):
        split.read([("a", 0)], 3)
    error = InputError("no such file")

    class Zoo:
        def __getitem__(self, index):
            raise error

    with pytest.raises(InputError, match="no such file"):
        split.read(Zoo(), 0)
