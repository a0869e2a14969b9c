"""Preprocessing at the size a network was built with, and what differs between two ways."""

from __future__ import annotations

import pytest

from zoo.api import Preprocessing
from zoo.model.build import build
from zoo.model.preprocessing import differences, for_arguments


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        ({}, (224, 224)),
        ({"img_size": 96}, (96, 96)),
        ({"image_size": 96}, (96, 96)),
        ({"img_size": [96, 64]}, (96, 64)),
        ({"img_size": None}, (224, 224)),
        ({"img_size": True}, (224, 224)),
    ],
)
def test_the_size_is_that_of_the_arguments(arguments: dict, size: tuple[int, int]) -> None:
    assert for_arguments(Preprocessing(), arguments) == Preprocessing(size=size)


@pytest.mark.parametrize(
    ("channels", "mean"),
    [(1, (0.2,)), (3, (0.1, 0.2, 0.3)), (4, (0.1, 0.2, 0.3, 0.1)), (2, (0.1, 0.2)), (12, (0.1, 0.2, 0.3) * 4)],
)
def test_the_channels_are_those_of_the_arguments(channels: int, mean: tuple[float, ...]) -> None:
    asked = for_arguments(Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.5,) * 3), {"in_chans": channels})
    assert asked.channels == channels
    assert asked.mean == pytest.approx(mean)
    assert asked.std == (0.5,) * channels


def test_a_network_built_at_another_size_is_fed_that_size() -> None:
    assert build("timm/test_vit", {"img_size": 96}, device="meta").preprocessing.size == (96, 96)


def test_differences_are_said_value_by_value() -> None:
    one = Preprocessing(size=(96, 64), mean=(0.5,) * 3, crop_fraction=1.0)
    assert differences(one, Preprocessing()) == [
        "size 96 x 64, not 224 x 224",
        "mean 0.5 0.5 0.5, not 0.485 0.456 0.406",
        "crop_fraction 1, not 0.875",
    ]
    assert not differences(one, one)
