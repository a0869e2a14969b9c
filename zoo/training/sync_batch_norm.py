"""Batch norm over the batch of all processes, on any device: what one process with that batch computes.

torch's SyncBatchNorm replaces modules, and works on GPUs alone. Here the call that every batch norm ends in, torch's
own as well as timm's and torchvision's, `torch.nn.functional.batch_norm` in training mode, is answered by one that adds
up over the processes. Sums are weighted by each process's number of values, since the last batch may be shared out
unevenly; the variance is that of the differences from the common mean, which rounds as torch's own does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from zoo.training.trainer import Trainer


class SyncBatchNorm(TorchFunctionMode):
    """Inside, batch norms that train take their statistics over the batches of all processes."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, arguments: Any = (), options: dict[str, Any] | None = None
    ) -> Any:
        options = options or {}
        if function is F.batch_norm and _trains(*arguments, **options):
            return _batch_norm(*arguments, **options)
        return function(*arguments, **options)


def trained_norms(network: nn.Module) -> list[nn.Module]:
    """The batch norms that train: in training mode they normalise by the batch."""
    kinds = nn.modules.batchnorm._BatchNorm
    return [module for module in network.modules() if isinstance(module, kinds) and module.training]


def note_batch_norm(trainer: Trainer) -> None:
    """Say what trained batch norms normalise by where there are several processes."""
    processes, trained = trainer.accelerator.num_processes, trained_norms(trainer.job.network or trainer.job.model)
    if processes > 1 and trained:
        size = trainer.job.train.size(0)
        each = f"the {size} samples of all {processes} processes, as one process would"
        if not trainer.synchronises:
            each = f"each process's own {size // processes} samples (compile: true), unlike one process"
        trainer.listener.note(f"batch norm: {len(trained)} layers normalise by {each}")


class _AddUp(torch.autograd.Function):
    """The sum over all processes; its gradient is that of all of their losses."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return total


def _trains(
    inputs: Tensor, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None, training: bool = False,
    momentum: float = 0.1, eps: float = 1e-5,
) -> bool:  # fmt: skip
    return training


def _batch_norm(
    inputs: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
    bias: Tensor | None = None, training: bool = True, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    values = inputs.float()
    axes = [axis for axis in range(values.ndim) if axis != 1]
    shape = [-1 if axis == 1 else 1 for axis in range(values.ndim)]
    own = values.new_tensor([values.numel() / values.shape[1]])
    sums = _AddUp.apply(torch.cat([values.sum(axes), own]))
    count = sums[-1]
    mean = sums[:-1] / count
    centred = values - mean.reshape(shape)
    variance = _AddUp.apply((centred * centred).sum(axes)) / count
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((variance * count / (count - 1)).to(running_var.dtype), momentum)
    normal = centred * torch.rsqrt(variance + eps).reshape(shape)
    if weight is not None:
        normal = normal * weight.float().reshape(shape)
    if bias is not None:
        normal = normal + bias.float().reshape(shape)
    answer: Tensor = normal.to(inputs.dtype)
    return answer
