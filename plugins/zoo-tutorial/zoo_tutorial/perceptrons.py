"""The tutorials' perceptrons and blocks: what can be nested, shared and forgotten."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from zoo_tutorial.layers import CenteredLayer, MyLinear, MyLinearDetached, MySequential


def fashion_mlp(hidden: int = 512, num_classes: int = 10) -> nn.Module:
    """Grey images of 28 by 28 pixels through two hidden layers: [b, 1, 28, 28] -> [b, num_classes]."""
    return nn.Sequential(OrderedDict(flatten=nn.Flatten(), linear_relu_stack=_fashion_stack(hidden, num_classes)))


def fashion_mlp_relu(hidden: int = 512, num_classes: int = 10) -> nn.Module:
    """`fashion_mlp` with a ReLU behind its last layer, a trap: logits below zero are lost before cross-entropy."""
    stack = _fashion_stack(hidden, num_classes).append(nn.ReLU())
    return nn.Sequential(OrderedDict(flatten=nn.Flatten(), linear_relu_stack=stack))


def _fashion_stack(hidden: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(28 * 28, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, num_classes),
    )


class MLP(nn.Module):
    """[b, 20] -> `hidden` -> ReLU -> [b, outputs]."""

    def __init__(self, hidden: int, outputs: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(20, hidden)
        self.output = nn.Linear(hidden, outputs)

    def forward(self, rows: Tensor) -> Tensor:
        answer: Tensor = self.output(self.hidden(rows).relu())
        return answer


def mlp(hidden: int = 256, num_classes: int = 10) -> nn.Module:
    """The 20-256-10 perceptron as a class of its own."""
    return MLP(hidden, num_classes)


def sequential_mlp(hidden: int = 256, num_classes: int = 10) -> nn.Module:
    """The same perceptron in the home-made container."""
    return MySequential(nn.Linear(20, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))


def small_mlp(num_classes: int = 1) -> nn.Module:
    """4-8-1 in a Sequential: [b, 4] -> [b, 1]."""
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, num_classes))


class NestedMLP(nn.Module):
    """A Sequential inside a module: [b, 20] -> 64 -> 32 -> [b, 16]."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
        self.linear = nn.Linear(32, 16)

    def forward(self, rows: Tensor) -> Tensor:
        answer: Tensor = self.linear(self.net(rows))
        return answer


def nested_mlp() -> nn.Module:
    """[b, 20] -> [b, 16] through a block inside a block."""
    return NestedMLP()


class FixedHiddenMLP(nn.Module):
    """A linear layer used twice around a random matrix that never trains; halves its output until it is small.

    [b, 20] -> a scalar. The matrix is a plain attribute, a trap: it is in no state dict, so a reloaded network
    gives other outputs. `kept=True` registers it as a buffer, which avoids that.
    """

    def __init__(self, kept: bool) -> None:
        super().__init__()
        matrix = torch.rand(20, 20)
        if kept:
            self.register_buffer("rand_weight", matrix)
        else:
            self.rand_weight = matrix
        self.linear = nn.Linear(20, 20)

    def forward(self, rows: Tensor) -> Tensor:
        hidden = torch.relu(self.linear(rows) @ self.rand_weight + 1)
        answer: Tensor = self.linear(hidden)
        while answer.abs().sum() > 1:
            answer = answer / 2
        return answer.sum()


def fixed_hidden_mlp() -> nn.Module:
    """The random matrix as a plain attribute (a trap)."""
    return FixedHiddenMLP(kept=False)


def fixed_hidden_mlp_buffer() -> nn.Module:
    """The random matrix as a buffer: the same network, saved completely."""
    return FixedHiddenMLP(kept=True)


def chimera(kept: bool = False) -> nn.Module:
    """Blocks of different kinds in a row: [b, 20] -> a scalar. `kept` as in `FixedHiddenMLP`."""
    return nn.Sequential(NestedMLP(), nn.Linear(16, 20), FixedHiddenMLP(kept))


def nested_blocks(num_classes: int = 1) -> nn.Module:
    """Four equal blocks with a space in their names, so that a path reads `0.block 1.0.bias`: [b, 4] -> [b, 1]."""
    inner = nn.Sequential()
    for index in range(4):
        inner.add_module(f"block {index}", nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4), nn.ReLU()))
    return nn.Sequential(inner, nn.Linear(4, num_classes))


def shared(num_classes: int = 1) -> nn.Module:
    """One Linear(8, 8) stands at places 2 and 4: [b, 4] -> [b, 1]."""
    tied = nn.Linear(8, 8)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), tied, nn.ReLU(), tied, nn.ReLU(), nn.Linear(8, num_classes))


def centered() -> nn.Module:
    """A layer without parameters behind one with: [b, 8] -> [b, 128], of mean zero."""
    return nn.Sequential(nn.Linear(8, 128), CenteredLayer())


def my_linear() -> nn.Module:
    """Two home-made linear layers: [b, 64] -> [b, 1]."""
    return nn.Sequential(MyLinear(64, 8), MyLinear(8, 1))


def my_linear_detached() -> nn.Module:
    """The same with layers that never get a gradient (a trap)."""
    return nn.Sequential(MyLinearDetached(64, 8), MyLinearDetached(8, 1))
