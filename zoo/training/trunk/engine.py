"""Run a frozen backbone fast: batch norms fused, channels-last, bfloat16 where it is native and close enough.

The engine has its own copy of the backbone's tensors; the model that they came from is not touched. Which of these it
uses is decided on an example, and stated in `Engine.settings`.
"""

from __future__ import annotations

import contextlib
import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from zoo.training.autotune import relative_distance
from zoo.training.devices import bfloat16_is_native

FEATURE_TOLERANCE = 0.08  # relative Frobenius distance from float32's features; EfficientNet-Lite0's bfloat16: 0.056


@dataclass(frozen=True)
class EngineSettings:
    """How a frozen backbone is run. `error` is the features' relative distance from those of plain float32."""

    dtype: str = "float32"
    fused: int = 0
    channels_last: bool = False
    error: float = 0.0

    def __str__(self) -> str:
        parts = [self.dtype, f"{self.fused} batch norms fused" if self.fused else ""]
        parts += ["channels-last" if self.channels_last else "", f"features within {self.error:.1e} of float32"]
        return ", ".join(part for part in parts if part)


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
        if self.settings.dtype != "bfloat16":
            return contextlib.nullcontext()
        return torch.autocast(device.type, dtype=torch.bfloat16)


def exact_engine(trunk: fx.GraphModule) -> Engine:
    """An engine with the same operations in the same precision as in the model itself."""
    return Engine(_copied(trunk), EngineSettings())


def fast_engine(trunk: fx.GraphModule, example: Tensor) -> Engine:
    """The fastest engine whose features on `example` are within `FEATURE_TOLERANCE` of those of plain float32."""
    expected = exact_engine(trunk)(example)
    dtypes = ["bfloat16", "float32"] if bfloat16_is_native(example.device) else ["float32"]
    for dtype in dtypes:
        fast, fused = fuse(trunk)
        channels_last = any(isinstance(module, nn.Conv2d) for module in fast.modules())
        if channels_last:
            fast.to(memory_format=torch.channels_last)
        if dtype == "bfloat16":
            _cast_weights(fast)
        error = relative_distance(expected, Engine(fast, EngineSettings(dtype, fused, channels_last))(example))
        if error <= FEATURE_TOLERANCE:
            return Engine(fast, EngineSettings(dtype, fused, channels_last, error))
    return exact_engine(trunk)


def _cast_weights(trunk: fx.GraphModule) -> None:
    """Cast once the weights that autocast would cast in every call; the outputs are bitwise the same."""
    for module in trunk.modules():
        if type(module) in (nn.Conv2d, nn.Linear):  # a subclass may do more with its weight than multiply
            module.to(torch.bfloat16)


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
