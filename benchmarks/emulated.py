"""bfloat16 as a processor with bfloat16 units computes it, on one without: rounded numbers, multiplied in float32.

torch's own kernels for processors without them give the same to the last digits and take twenty times as long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

MULTIPLY = frozenset(
    (
        *(F.conv1d, F.conv2d, F.conv3d, F.linear, torch.matmul, Tensor.matmul, Tensor.__matmul__),
        *(torch.bmm, Tensor.bmm, torch.mm, Tensor.mm, torch.addmm, F.scaled_dot_product_attention),
    )
)


class Emulated(TorchFunctionMode):
    """Under autocast to bfloat16, what multiplies matrices rounds what it takes and what it gives, and adds in float32.

    `rounded(function, arguments)` says which calls do so; all, without.
    """

    def __init__(self, rounded: Callable[[Any, tuple[Any, ...]], bool] = lambda function, arguments: True) -> None:
        super().__init__()
        self.rounded = rounded

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in MULTIPLY or not torch.is_autocast_enabled("cpu"):
            return func(*args, **kwargs)
        low = self.rounded(func, args)
        with torch.autocast("cpu", enabled=False):
            args, kwargs = ([_rounded(value, low) for value in args], {k: _rounded(v, low) for k, v in kwargs.items()})
            result = func(*args, **kwargs)
        return result.bfloat16() if low else result


def _rounded(value: Any, low: bool) -> Any:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    return (value.bfloat16() if low else value).float()
