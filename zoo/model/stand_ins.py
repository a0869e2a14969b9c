"""Run a model with other tensors in the places of its own, and leave it as it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from zoo.model.paths import join


def call_with(model: nn.Module, stand_ins: Mapping[int, Tensor], *inputs: Any) -> Any:
    """`model(*inputs)`, each parameter and buffer replaced by `stand_ins[id(tensor)]` where there is one.

    torch's functional_call alone leaves the stand-ins in a module that is registered at two places (seen in 2.15), so
    each module is visited once, and each of its tensors by its place.
    """
    places = {
        join(path, name): stand_ins[id(tensor)]
        for path, module in model.named_modules()
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if id(tensor) in stand_ins
    }
    return functional_call(model, places, inputs, tie_weights=False)
