"""The surgery that merges adapters into the layers they stand beside."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from zoo.api import Context, InputError, set_module
from zoo_peft.adapters import SURGERIES, adapters


def merge_adapters(model: nn.Module, *, context: Context | None = None) -> nn.Module:
    """Merge the adapters into the weights of their layers: the plain network again, which computes the same.

    A checkpoint of it is one of the architecture as it was, which `zoo.load` rebuilds without peft.
    """
    found = adapters(model)
    if not found:
        raise InputError(
            "the model has no adapters to merge", suggestion="put lora, or another surgery of zoo-peft, in front"
        )
    with torch.no_grad():
        for path, adapter in found.items():
            layer: Any = adapter  # peft leaves these methods without types
            base: nn.Module = layer.get_base_layer()
            if not any(parameter.is_meta for parameter in base.parameters()):
                layer.merge()
            set_module(model, path, base)
    for module in model.modules():
        module.__dict__.pop("peft_config", None)  # peft leaves it in the network that it was handed
    if context is not None:
        context.takes_back.extend(SURGERIES)
        context.notes.append(f"{len(found)} adapters merged")
    return model
