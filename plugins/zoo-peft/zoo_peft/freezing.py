"""The freezing policy for networks with adapters."""

from __future__ import annotations

from torch import nn

from zoo.api import InputError, find_heads, get_module
from zoo_peft.adapters import adapters


def adapters_only(model: nn.Module, *, train_head: bool = True) -> list[str]:
    """Freeze all but adapters and, unless `train_head` is false, the classifier. Batch-norm statistics are frozen."""
    found = adapters(model)
    if not found:
        raise InputError("adapters_only: the model has no adapters", suggestion="put lora: {} in front")
    kept = {
        id(parameter)
        for layer in found.values()
        for name, parameter in layer.named_parameters()
        if not name.startswith("base_layer.")
    }
    for head in find_heads(model) if train_head else ():
        module = get_module(model, head)
        kept |= {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
    tensors = (*model.named_parameters(), *model.named_buffers())
    return [name for name, tensor in tensors if id(tensor) not in kept]
