"""The architecture source `tutorial`: a table of names; the function behind one is imported when it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from zoo.api import Preprocessing
from zoo.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

# name -> (module:function, what it takes in: channels and side of an image, or None for rows of numbers)
TABLE: dict[str, tuple[str, tuple[int, int] | None]] = {
    "net_a": ("convolutional:net_a", (3, 32)),
    "net_b": ("convolutional:net_b", (3, 32)),
    "net_b_longer": ("convolutional:net_b_longer", (3, 32)),
    "net_b_shorter": ("convolutional:net_b_shorter", (3, 32)),
    "net_b_renamed": ("convolutional:net_b_renamed", (3, 32)),
    "net_b_reshaped": ("convolutional:net_b_reshaped", (3, 32)),
    "cifar10_quick": ("convolutional:cifar10_quick", (3, 32)),
    "one_convolution": ("convolutional:one_convolution", (3, 32)),
    "fashion_mlp": ("perceptrons:fashion_mlp", (1, 28)),
    "fashion_mlp_relu": ("perceptrons:fashion_mlp_relu", (1, 28)),
    "mlp": ("perceptrons:mlp", None),
    "small_mlp": ("perceptrons:small_mlp", None),
    "sequential_mlp": ("perceptrons:sequential_mlp", None),
    "nested_mlp": ("perceptrons:nested_mlp", None),
    "fixed_hidden_mlp": ("perceptrons:fixed_hidden_mlp", None),
    "fixed_hidden_mlp_buffer": ("perceptrons:fixed_hidden_mlp_buffer", None),
    "chimera": ("perceptrons:chimera", None),
    "nested_blocks": ("perceptrons:nested_blocks", None),
    "shared": ("perceptrons:shared", None),
    "centered": ("perceptrons:centered", None),
    "my_linear": ("perceptrons:my_linear", None),
    "my_linear_detached": ("perceptrons:my_linear_detached", None),
}


class Tutorial:
    """`tutorial/…` in a recipe."""

    def names(self) -> list[str]:
        """Every network, from the table alone."""
        return list(TABLE)

    def build(self, name: str, **arguments: Any) -> nn.Module:
        """The network with fresh parameters. Raises InputError for an unknown name."""
        module, _, function = self._row(name)[0].partition(":")
        built: nn.Module = getattr(importlib.import_module(f"zoo_tutorial.{module}"), function)(**arguments)
        return built

    def preprocessing(self, name: str, tag: str | None = None) -> Preprocessing | None:
        """The tutorials' `ToTensor` alone: values from 0 to 1, not normalised. None where rows of numbers go in."""
        image = self._row(name)[1]
        if image is None:
            return None
        channels, side = image
        return Preprocessing(
            size=(side, side), mean=(0.0,) * channels, std=(1.0,) * channels, crop_fraction=1.0, channels=channels
        )

    def _row(self, name: str) -> tuple[str, tuple[int, int] | None]:
        if name not in TABLE:
            raise InputError(f"tutorial has no {name!r}", suggestion=did_you_mean(name, TABLE))
        return TABLE[name]
