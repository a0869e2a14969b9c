"""Real architectures with every tensor randomised, frozen at the head or half way."""

import pytest
import timm
import torch
from torch import nn

from zoo.model.freezing import freeze


def randomise(model: nn.Module) -> nn.Module:
    """Fresh batch norms are all ones and zeros and hide errors: give every tensor values of its own."""
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if not tensor.is_floating_point():
                continue
            if "running_var" in name:
                tensor.uniform_(0.5, 1.5)
            elif tensor.ndim <= 1:
                tensor.add_(torch.randn_like(tensor) * 0.1)
    return model


def frozen_model(name: str, where: str) -> nn.Module:
    """A timm architecture in training mode; everything but the head is frozen, or the first half of its parameters."""
    torch.manual_seed(0)
    model = randomise(timm.create_model(name, num_classes=10))
    names = [name for name, _ in model.named_parameters()]
    head = model.default_cfg["classifier"]
    prefixes = tuple(f"{part}." for part in ([head] if isinstance(head, str) else head))
    still = [n for n in names if not n.startswith(prefixes)] if where == "head" else names[: len(names) // 2]
    freeze(model, still)
    return model.train()


@pytest.fixture
def build():
    return frozen_model


@pytest.fixture
def images():
    """`images(model, count)`: as small as the network takes them; a convolution is the same at 64 pixels and at 224."""

    def some(model: nn.Module, count: int) -> torch.Tensor:
        known = model.default_cfg
        return torch.randn(count, *(known["input_size"] if known.get("fixed_input_size") else (3, 64, 64)))

    return some
