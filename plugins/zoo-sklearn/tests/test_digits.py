"""The digits: all of them, scaled right, split without overlap and in proportion."""

from collections import Counter

import numpy as np
import pytest
import zoo_sklearn
from sklearn.datasets import load_digits
from zoo_sklearn import digits

from zoo.testing import DatasetContract


class TestContract(DatasetContract):
    component = "sklearn/digits"


def pixels(samples):
    return np.stack([np.asarray(image) for image, _ in samples])


def test_every_image_is_in_exactly_one_split():
    data = digits()
    assert (len(data.train), len(data.validation)) == (1437, 360)
    ours = np.concatenate([pixels(data.train), pixels(data.validation)]).reshape(1797, -1)
    theirs = np.rint(load_digits().images.reshape(1797, -1) * (255 / 16)).astype(np.uint8)
    assert Counter(map(bytes, ours)) == Counter(map(bytes, theirs))


def test_the_whole_range_of_a_byte_is_used():
    images = pixels(digits().train)
    assert images.dtype == np.uint8
    assert images.shape[1:] == (8, 8)
    assert (images.min(), images.max()) == (0, 255)


def test_each_image_keeps_its_label():
    images, targets = load_digits(return_X_y=True)
    scaled = np.rint(images * (255 / 16)).astype(np.uint8)
    labels = {image.tobytes(): int(target) for image, target in zip(scaled, targets, strict=True)}
    assert all(labels[np.asarray(image).tobytes()] == target for image, target in digits().validation)


def test_the_split_is_stratified():
    validation = Counter(target for _, target in digits().validation)
    whole = Counter(load_digits().target.tolist())
    assert all(validation[label] == pytest.approx(0.2 * whole[label], abs=1) for label in range(10))


def test_the_seed_draws_the_split():
    first, again, other = digits(), digits(seed=0), digits(seed=1)
    assert (pixels(first.train) == pixels(again.train)).all()
    assert (pixels(first.train) != pixels(other.train)).any()


def test_the_split_is_stratified_and_drawn_by_the_seed():
    counts = Counter(target for _, target in digits().validation)
    everything = Counter(load_digits().target.tolist())
    assert all(abs(counts[digit] - 0.2 * everything[digit]) < 1 for digit in range(10))
    first, again, other = (pixels(digits(seed).validation) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_another_layout_of_scikit_learn_is_asked_itself(monkeypatch):
    expected = pixels(digits().validation)
    monkeypatch.setattr("zoo_sklearn.find_spec", lambda name: None)
    zoo_sklearn._samples.cache_clear()  # of the first call
    assert np.array_equal(pixels(digits().validation), expected)
    zoo_sklearn._samples.cache_clear()
