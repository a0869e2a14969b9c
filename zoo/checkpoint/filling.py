"""A model seen as the target of a plan, and the plan carried out on it; imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from zoo.checkpoint.expression import evaluate
from zoo.checkpoint.moves import Target
from zoo.checkpoint.plan import Plan
from zoo.checkpoint.tensors import entry, to_tensor
from zoo.errors import InputError, WorkError

if TYPE_CHECKING:
    import numpy as np

    Read = Callable[[str], np.ndarray[Any, Any]]


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of the model's state dict themselves, not copies; tied ones are one object under several names."""
    state = model.state_dict(keep_vars=True)
    if lazy := [name for name, value in state.items() if is_lazy(value)]:
        raise InputError(f"{lazy[0]!r} has no shape yet", suggestion="run a batch through the model first")
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


def target_of(model: nn.Module, *, ignored: Iterable[str] = (), classes: Sequence[str] = ()) -> Target:
    """What a plan may fill in `model`. `ignored` are module paths that need not be; works on `meta` too."""
    state = state_of(model)
    first: dict[int, str] = {}
    tied = {name: first[id(value)] for name, value in state.items() if first.setdefault(id(value), name) != name}
    return Target(
        entries={name: entry(name, value) for name, value in state.items()},
        parameters=frozenset(name for name, value in state.items() if isinstance(value, nn.Parameter)),
        tied=tied,
        ignored=tuple(ignored),
        classes=tuple(classes),
    )


def fill(model: nn.Module, plan: Plan, read: Read, *, staged: bool = True) -> None:
    """Give the model the plan's tensors, in its own dtypes and on its own devices.

    `staged` reads everything before the first tensor is written, so that a failure leaves the model as it was; without
    it, and on `meta`, where there is nothing to lose, it goes one tensor at a time. Tensors on `meta` come to the CPU.
    Raises WorkError where the state dict names what is neither parameter nor buffer of a module.
    """
    state = state_of(model)
    made: Iterable[tuple[str, torch.Tensor]] = (
        (move.target, to_tensor(evaluate(move.value, read), move.dtype)) for move in plan.moves
    )
    if staged and not any(value.is_meta for value in state.values()):
        made = list(made)
    holders = _holders(model)
    with torch.no_grad():
        for name, tensor in made:
            _put(name, state[name], tensor, holders)


Holder = tuple[dict[str, Any], str]


def _holders(model: nn.Module) -> dict[int, list[Holder]]:
    """For each parameter and buffer, by identity, the places in modules that hold it."""
    holders: dict[int, list[Holder]] = {}
    for module in model.modules():
        for table in (module._parameters, module._buffers):
            for key, value in table.items():
                holders.setdefault(id(value), []).append((table, key))
    return holders


def _put(name: str, old: torch.Tensor, new: torch.Tensor, holders: dict[int, list[Holder]]) -> None:
    if not old.is_meta:
        old.copy_(new)
        return
    if id(old) not in holders:
        raise WorkError(f"{name!r} is in the state dict, but no module holds it as a parameter or buffer")
    value = new.to(old.dtype)
    made = nn.Parameter(value, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else value
    for table, key in holders[id(old)]:
        table[key] = made


def left_on_meta(model: nn.Module) -> list[str]:
    """Names of parameters and buffers that have no values: on `meta`, persistent or not."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return [name for name, value in tensors if value.is_meta]
