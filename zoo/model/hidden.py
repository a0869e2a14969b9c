"""Tensors that a model holds and its state dict does not: plain attributes and buffers that are not persistent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

_TORCH_OWN = frozenset(nn.Module().__dict__)


def hidden_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Dotted names and tensors, those in lists and dicts of attributes too."""
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        for name in module._non_persistent_buffers_set:
            if (buffer := module._buffers.get(name)) is not None:
                yield f"{prefix}{name}", buffer
        for name, value in module.__dict__.items():
            if name not in _TORCH_OWN:
                yield from _inside(f"{prefix}{name}", value)


def _inside(name: str, value: Any) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _inside(f"{name}[{key!r}]", item)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _inside(f"{name}[{index}]", item)


def hidden_differences(model: nn.Module, other: nn.Module) -> list[str]:
    """Names of hidden tensors that differ between two models of one structure, or that only one of them has."""
    mine, its = dict(hidden_tensors(model)), dict(hidden_tensors(other))
    return [name for name, tensor in mine.items() if name not in its or not _equal(tensor, its[name])]


def _equal(tensor: torch.Tensor, other: torch.Tensor) -> bool:
    same = tensor.shape == other.shape and tensor.dtype == other.dtype
    return same and bool(((tensor == other.to(tensor.device)) | (tensor != tensor)).all())
