"""Run a model to learn something about it, and leave it as it was: modes, random generators and, where asked, more."""

from __future__ import annotations

import random
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from zoo.model.freezing import HeldInEval


@contextmanager
def undisturbed(
    model: nn.Module, *, training: bool | None = None, attributes: bool = False, buffers: bool = False
) -> Iterator[None]:
    """The model in training or evaluation mode for the block; afterwards it is as before, also where the block fails.

    The mode of each module and every random generator are always put back.

    Args:
        training: the mode for the block, as `model.train(training)` sets it: what is frozen stays in evaluation mode.
            None leaves each module in its own.
        attributes: put back what forward leaves in modules, too: caches of a pass on stand-ins, hooks, the `weight`
            that torch's older weight norm computes.
        buffers: put back buffers (running statistics) and gradients, too; the block begins without gradients.
    """
    modes = [(module, module.training) for module in model.modules()]
    asked = [(hold, hold.asked) for module, _ in modes if isinstance(hold := vars(module).get("train"), HeldInEval)]
    attributes_before = [_Attributes(module) for module, _ in modes] if attributes else []
    with generators_kept(), _state_kept(model, buffers):
        try:
            if training is not None:
                model.train(training)
            yield
        finally:
            if training is not None:
                model.train(modes[0][1])  # classes that do more in train() undo it so: LeViT drops a cache there
            for before in attributes_before:
                before.restore()
            for hold, mode in asked:
                hold.asked = mode
            for module, mode in modes:
                module.training = mode


_CONTAINERS = (dict, OrderedDict, defaultdict, list, set)


class _Attributes:
    """A module's attributes, and what its own dicts, lists and sets contain, hooks among them."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.values = module, dict(vars(module))
        self.contents = [(item, item.copy()) for item in self.values.values() if type(item) in _CONTAINERS]

    def restore(self) -> None:
        vars(self.module).clear()
        vars(self.module).update(self.values)
        for item, before in self.contents:
            item.clear()
            fill: Any = item.extend if isinstance(item, list) else item.update
            fill(before)


@contextmanager
def _state_kept(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Buffers and gradients as they were, if `wanted`."""
    if not wanted:
        yield
        return
    tables = [(module._buffers, module._buffers.copy()) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        yield
    finally:
        for table, before in tables:
            table.update(before)
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        for parameter, gradient in gradients:
            parameter.grad = gradient


@contextmanager
def generators_kept() -> Iterator[None]:
    """Every random generator (Python's, numpy's, torch's on each device) goes on afterwards as if the block had drawn
    and seeded nothing. Initialises no device."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    python, numpy, cpu, seed = random.getstate(), np.random.get_state(), torch.get_rng_state(), torch.initial_seed()
    try:
        yield
    finally:
        # torch.manual_seed reaches a GPU that starts later, too: let that find the caller's seed.
        reseed = torch.initial_seed() != seed or torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if mps is not None:
            torch.mps.set_rng_state(mps)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        elif reseed:
            torch.cuda.manual_seed_all(seed)
