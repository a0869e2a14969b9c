"""The order in which a network uses its tensors, found without computing."""

from __future__ import annotations

from torch import nn

from zoo.checkpoint.filling import state_of
from zoo.errors import InputError
from zoo.model.arrivals import Arrivals


def execution_order(model: nn.Module) -> dict[str, int]:
    """Position of the first operation that is given each tensor of the state dict; unused tensors are not in it.

    Works on `meta`. Empty where no input that is likely to fit goes through the network.
    """
    try:
        done = Arrivals(model).furthest
    except InputError:
        return {}
    if done.error is not None:
        return {}
    positions = done.trace.first_uses()
    return {name: positions[id(value)] for name, value in state_of(model).items() if id(value) in positions}
