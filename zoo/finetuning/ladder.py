"""A ladder of digests, 32 bytes for the model after every step and epoch: two runs are compared rung by rung."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from zoo.formats.save import tied_aliases

Rung = dict[str, Any]
"""`{"step", "action", "epoch", "digest"}`: steps count from 1, and 0 is the model with its weights. A train step has a
rung for the state that it began with (epoch 0) and for the state after each epoch, with optimizer and generators; the
rung of a finished step (epoch None) is of the model alone."""


def model_digest(model: nn.Module) -> str:
    """The digest of a model's parameters and buffers, as a checkpoint stores them."""
    state = model.state_dict()
    return digest_of({name: value for name, value in state.items() if isinstance(value, Tensor) and not is_lazy(value)})


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """A sha256 over names, types, shapes and bytes; a tensor that has several names counts under the first."""
    digest, tied = hashlib.sha256(), tied_aliases(tensors)
    for name in sorted(tensors.keys() - tied.keys()):
        tensor = tensors[name].detach()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).cpu().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def described(rung: Rung) -> str:
    """`step 3 (train), epoch 2`."""
    if not rung["step"]:
        return "the model with its weights, before the first step"
    at = f"step {rung['step']} ({rung['action']})"
    if rung["epoch"] is None:
        return f"{at}, its end"
    return f"{at}, epoch {rung['epoch']}" if rung["epoch"] else f"{at}, its beginning"


def first_difference(before: list[Rung], now: list[Rung]) -> Rung | None:
    """The first rung of `before` that `now` lacks or has otherwise; None where all are equal."""
    for number, rung in enumerate(before):
        if number >= len(now) or now[number] != rung:
            return rung
    return now[len(before)] if len(now) > len(before) else None
