"""What makes a network answer otherwise in training than in evaluation: batch norms and what drops things by chance.

Held as they are in evaluation (`zoo.model.freezing` by these names), a network trains from the very function that was
evaluated, and its first training loss is the loss that was measured.
"""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from zoo.model.paths import join

CHANCE = ("drop", "stochasticdepth")  # in the class's name: Dropout, DropPath, StochasticDepth, DropBlock2d, …


def running_statistics(model: nn.Module) -> list[str]:
    """The buffers of batch and instance norms that keep statistics, by state-dict name.

    Frozen, they hold their layers in evaluation mode, while weight and bias train.
    """
    norms = [(path, module) for path, module in model.named_modules() if isinstance(module, _NormBase)]
    return [
        join(path, name)
        for path, norm in norms
        if norm.track_running_stats
        for name, _ in norm.named_buffers(recurse=False)
    ]


def chance_modules(model: nn.Module) -> list[str]:
    """Paths of the modules that drop values, paths or patches by chance: those without parameters whose class is called
    so, in torch, torchvision, timm and transformers alike."""
    return [
        path
        for path, module in model.named_modules()
        if path
        and any(word in type(module).__name__.lower() for word in CHANCE)
        and next(module.parameters(), None) is None
    ]
