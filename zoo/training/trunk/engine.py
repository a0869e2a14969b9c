"""Run a frozen backbone fast: batch norms fused, channels-last, in a precision that leaves answers as they are.

The engine has its own copy of the backbone's tensors; the model that they came from is not touched. How it runs is
stated in `Engine.settings`; which precision does no harm is found in zoo.training.trunk.agreement.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from zoo.training.autotune import relative_distance
from zoo.training.devices import to_layout

FOLDING_TOLERANCE = 1e-3  # relative Frobenius distance; folding rounds at 1e-6, and errs by more where it is wrong


@dataclass(frozen=True)
class EngineSettings:
    """How a frozen backbone is run: `precision` is "float32", "bfloat16" or "mixed" (bfloat16 but for some layers)."""

    precision: str = "float32"
    fused: int = 0
    channels_last: bool = False

    def __str__(self) -> str:
        parts = [self.precision, f"{self.fused} batch norms fused" if self.fused else ""]
        return ", ".join(part for part in [*parts, "channels-last" if self.channels_last else ""] if part)


class Engine:
    """A frozen backbone, run without autograd: `engine(inputs [n, …]) -> tuple of tensors [n, …]` on their device."""

    def __init__(self, trunk: fx.GraphModule, settings: EngineSettings) -> None:
        self.trunk = trunk
        self.settings = settings

    def __call__(self, inputs: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad(), self._autocast(inputs.device):
            if self.settings.channels_last and inputs.ndim == 4:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            return tuple(self.trunk(inputs))

    def _autocast(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        if self.settings.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(device.type, dtype=torch.bfloat16)


def exact_engine(trunk: fx.GraphModule) -> Engine:
    """An engine with the same operations in the same precision as in the model itself."""
    return Engine(_copied(trunk), EngineSettings())


def fast_engine(trunk: fx.GraphModule, example: Tensor, precision: str = "float32") -> Engine:
    """The fastest engine of a precision. Folding that shows on `example` is left out, with the memory layout."""
    fast, fused = fuse(trunk)
    channels_last = any(isinstance(module, nn.Conv2d) for module in fast.modules())
    if channels_last:
        to_layout(fast, torch.channels_last)
    settings = EngineSettings("float32", fused, channels_last)
    if not relative_distance(exact_engine(trunk)(example), Engine(fast, settings)(example)) <= FOLDING_TOLERANCE:
        fast, settings = _copied(trunk), EngineSettings()
    if precision != "float32":
        _cast(fast, _sensitive(fast) if precision == "mixed" else [])
    return Engine(fast, EngineSettings(precision, settings.fused, settings.channels_last))


def _sensitive(trunk: fx.GraphModule) -> list[nn.Module]:
    """The layers that `mixed` leaves in float32: the first quarter, whose rounding grows on its way through the others,
    and depthwise convolutions, in which bfloat16 gains little.

    On EfficientNet-Lite0 and digits bfloat16 moves the features by 4.9 %, 3.2 % by rounding the images alone; with the
    first layer in float32 it is 3.3 %, with the first quarter 2.1 %, with the depthwise ones too 1.7 %.
    """
    layers = [module for module in trunk.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    depthwise = [layer for layer in layers if isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1]
    return [*layers[: math.ceil(len(layers) / 4)], *depthwise]


def _cast(trunk: fx.GraphModule, kept: list[nn.Module]) -> None:
    """Cast once the weights that autocast would cast in every call (the outputs are bitwise the same), and let the
    `kept` layers compute in float32."""
    for module in trunk.modules():
        if any(module is layer for layer in kept):
            module.forward = _in_float32(module.forward)
        elif type(module) in (nn.Conv2d, nn.Linear):  # a subclass may do more with its weight than multiply
            module.to(torch.bfloat16)


def _in_float32(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def in_float32(inputs: Tensor) -> Tensor:
        with torch.autocast(inputs.device.type, enabled=False):
            return forward(inputs.float())

    return in_float32


def fuse(trunk: fx.GraphModule) -> tuple[fx.GraphModule, int]:
    """A copy, in evaluation mode, with every batch norm after a convolution or linear layer folded into that layer.

    Works for subclasses too (TensorFlow-style padding, timm's batch norm with activation), whose own forward is kept.
    Returns the copy and the number of folded batch norms.
    """
    result = _copied(trunk)
    fused = 0
    for node in list(result.graph.nodes):
        if node.op == "call_module" and _fold(result, node):
            fused += 1
    result.recompile()
    return result, fused


def _copied(trunk: fx.GraphModule) -> fx.GraphModule:
    """A copy whose mode nobody else changes: the original shares its modules with the model that it was split from."""
    return copy.deepcopy(trunk).eval().requires_grad_(False)


def _fold(trunk: fx.GraphModule, node: fx.Node) -> bool:
    """Fold the batch norm at `node` into the layer before it, where both are used only here."""
    norm = trunk.get_submodule(str(node.target))
    source = node.args[0] if node.args else None
    if not isinstance(norm, nn.modules.batchnorm._BatchNorm) or not isinstance(source, fx.Node):
        return False
    if source.op != "call_module" or len(source.users) > 1 or norm.running_mean is None:
        return False
    if _calls(trunk, str(source.target)) > 1 or _calls(trunk, str(node.target)) > 1:
        return False
    layer = trunk.get_submodule(str(source.target))
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        folded: nn.Module = fuse_conv_bn_eval(layer, norm)
    elif isinstance(layer, nn.Linear) and not isinstance(norm, nn.BatchNorm2d):
        folded = fuse_linear_bn_eval(layer, norm)
    else:
        return False
    _replace(trunk, str(source.target), folded)
    after = [module for name in ("drop", "act") if isinstance(module := getattr(norm, name, None), nn.Module)]
    _replace(trunk, str(node.target), nn.Sequential(*after) if after else nn.Identity())
    return True


def _calls(trunk: fx.GraphModule, target: str) -> int:
    return sum(node.op == "call_module" and node.target == target for node in trunk.graph.nodes)


def _replace(trunk: fx.GraphModule, target: str, module: nn.Module) -> None:
    parent, _, name = target.rpartition(".")
    setattr(trunk.get_submodule(parent), name, module)
