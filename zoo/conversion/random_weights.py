"""Random weights for comparing two networks numerically, in little memory."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SPREAD = 0.2  # standard deviation of what is added to scales and put into biases
GAIN = 1.2  # keeps signals from fading through activations


def emptied(model: nn.Module) -> nn.Module:
    """The model with its parameters on `meta`, where they take no memory; buffers stay."""
    made: dict[int, nn.Parameter] = {}  # a parameter in two places stays one
    for module in model.modules():
        for name, value in module.named_parameters(recurse=False):
            empty = nn.Parameter(torch.empty_like(value, device="meta"), requires_grad=value.requires_grad)
            module._parameters[name] = made.setdefault(id(value), empty)
    return model


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Non-degenerate random weights, so that two architectures can be compared numerically.

    Fills every parameter that is not on `meta` and the running statistics of every norm; other buffers stay. The same
    `seed` gives the same values. Scales stay near 1 and variances positive, so that signals neither vanish nor explode
    on the way through.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if not parameter.is_meta:
                    mean, spread = _distribution(name, parameter)
                    parameter.copy_(mean + spread * torch.randn(parameter.shape, generator=generator))
            for name, buffer in module.named_buffers(recurse=False):
                if name == "running_mean":
                    buffer.copy_(SPREAD * torch.randn(buffer.shape, generator=generator))
                elif name == "running_var":
                    buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))


def _distribution(name: str, value: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of a parameter's random values."""
    if value.ndim in (2, 4) and math.prod(value.shape[1:]) > 1:
        return 0.0, GAIN / math.sqrt(math.prod(value.shape[1:]))
    if name.endswith("bias"):
        return 0.0, SPREAD
    return (1.0 if name == "weight" else 0.5), SPREAD


APART = 16 * 61
"""How many numbers lie between the beginnings of two parameters' values: complete cache lines, as torch lays tensors
down, and no multiple of a row's usual length."""


def fill_empty(model: nn.Module, seed: int) -> None:
    """Random values, as `randomise` gives them, for the parameters that are on `meta`, in little memory.

    Parameters of one distribution are overlapping stretches of one row of random numbers, each with a beginning of its
    own: no two are equal, and a network takes little more than its largest parameter of each kind. Nothing may be
    written into them.
    """
    alike: dict[tuple[float, float], dict[int, nn.Parameter]] = {}
    for module in model.modules():
        for name, value in module.named_parameters(recurse=False):
            if value.is_meta and not any(id(value) in same for same in alike.values()):
                alike.setdefault(_distribution(name, value), {})[id(value)] = value
    made: dict[int, nn.Parameter] = {}
    generator = torch.Generator().manual_seed(seed)
    for (mean, spread), empty in alike.items():
        length = max(value.numel() for value in empty.values()) + APART * len(empty)
        numbers = torch.randn(length, generator=generator).mul_(spread).add_(mean)
        for place, (key, value) in enumerate(empty.items()):
            own = numbers[APART * place :][: value.numel()].view(value.shape).to(value.dtype)
            made[key] = nn.Parameter(own, requires_grad=value.requires_grad)
    for module in model.modules():
        for name, value in module.named_parameters(recurse=False):
            module._parameters[name] = made.get(id(value), value)


def computed_on_meta(model: nn.Module) -> bool:
    """Whether a buffer or constant of the model was computed of parameters on `meta`, and has no values."""
    constants = (value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor))
    return any(value.is_meta for value in (*model.buffers(), *constants))
