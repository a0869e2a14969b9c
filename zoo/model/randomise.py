"""Random weights that leave a network alive: what two networks that agree on these agree on is their wiring.

Fresh weights hide mistakes: batch norms start as ones and zeros, heads as zeros, layer scales as 1e-6.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SPREAD = 0.2  # standard deviation of what is added to scales and put into biases
GAIN = 1.2  # keeps signals from fading through activations


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Fill every parameter, and the running statistics of every norm, with random values; other buffers stay."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                parameter.copy_(_parameter(name, parameter, generator))
            for name, buffer in module.named_buffers(recurse=False):
                if name == "running_mean":
                    buffer.copy_(SPREAD * torch.randn(buffer.shape, generator=generator))
                elif name == "running_var":
                    buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))


def _parameter(name: str, value: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(value.shape, generator=generator)
    if value.ndim in (2, 4) and math.prod(value.shape[1:]) > 1:
        return noise * (GAIN / math.sqrt(math.prod(value.shape[1:])))
    if name.endswith("bias"):
        return SPREAD * noise
    return 1 + SPREAD * noise if name == "weight" else 0.5 + SPREAD * noise
