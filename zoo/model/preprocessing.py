"""How images are prepared for a network: for the size that it was built with, and where two ways differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from zoo.contracts import Preprocessing

SIZES = ("img_size", "image_size")  # what builders call the side of their input
CHANNELS = ("in_chans", "in_channels", "num_channels")  # and the number of its channels


def for_arguments(preprocessing: Preprocessing, arguments: Mapping[str, Any]) -> Preprocessing:
    """`preprocessing` at the input size, and with the channels, that an architecture's arguments ask for.

    One channel is normalised by the mean of the others' values, further ones by theirs in turn: `adapt_input` shares
    out a first convolution's weights in the same way.
    """
    for size in (arguments.get(name) for name in SIZES):
        if isinstance(size, int) and not isinstance(size, bool):
            preprocessing = replace(preprocessing, size=(size, size))
        elif isinstance(size, list | tuple) and len(size) == 2:
            preprocessing = replace(preprocessing, size=(size[0], size[1]))
    for count in (arguments.get(name) for name in CHANNELS):
        if isinstance(count, int) and not isinstance(count, bool) and count > 0:
            preprocessing = with_channels(preprocessing, count)
    return preprocessing


def with_channels(preprocessing: Preprocessing, count: int) -> Preprocessing:
    """`preprocessing` of images with so many channels, normalised as `for_arguments` says."""
    if count == preprocessing.channels:
        return preprocessing
    mean, std = _shared(preprocessing.mean, count), _shared(preprocessing.std, count)
    return replace(preprocessing, channels=count, mean=mean, std=std)


def _shared(values: tuple[float, ...], count: int) -> tuple[float, ...]:
    if len(values) == 1:
        return values
    return (sum(values) / len(values),) if count == 1 else tuple(values[place % len(values)] for place in range(count))


def differences(one: Preprocessing, other: Preprocessing) -> list[str]:
    """`size 96 x 96, not 224 x 224`: the values of `one` that differ from those of `other`."""
    mine, its = one.as_dict(), other.as_dict()
    return [f"{key} {_shown(key, mine[key])}, not {_shown(key, its[key])}" for key in mine if mine[key] != its[key]]


def _shown(key: str, value: Any) -> str:
    if isinstance(value, list):
        return (" x " if key == "size" else " ").join(f"{each:g}" for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
