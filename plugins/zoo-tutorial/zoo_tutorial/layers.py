"""Layers made by hand: one without parameters, one with, one that never learns, and a container."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CenteredLayer(nn.Module):
    """Subtracts the mean over all elements; no parameters, any shape."""

    def forward(self, values: Tensor) -> Tensor:
        return values - values.mean()


class MyLinear(nn.Module):
    """`relu(x @ weight + bias)`; the weight is [in_features, out_features], standard normal like the bias."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(in_features, out_features))
        self.bias = nn.Parameter(torch.randn(out_features))

    def forward(self, values: Tensor) -> Tensor:
        return torch.relu(values @ self.weight + self.bias)

    def extra_repr(self) -> str:
        return f"in_features={len(self.weight)}, out_features={len(self.bias)}"


class MyLinearDetached(MyLinear):
    """The trap: going through `.data` cuts the parameters off from autograd, so they stay as they were drawn."""

    def forward(self, values: Tensor) -> Tensor:
        return torch.relu(values @ self.weight.data + self.bias.data)


class MySequential(nn.Module):
    """Runs the modules it is given one after the other, as `nn.Sequential` does."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        for position, module in enumerate(modules):
            self.add_module(str(position), module)

    def forward(self, values: Tensor) -> Tensor:
        for module in self.children():
            values = module(values)
        return values
