"""Losses by name, with targets converted to what each one takes."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import InputError
from zoo.model.unstandardise import Unstandardise
from zoo.recipe.catalogue import find
from zoo.recipe.options import Named
from zoo.training.optimizers import named

BY_TASK = {"classification": "CrossEntropyLoss", "multilabel": "BCEWithLogitsLoss", "regression": "MSELoss"}
DIVIDE_BY_WEIGHT = (nn.CrossEntropyLoss, nn.NLLLoss)  # their mean is one by the weights of the targets' classes
WEIGHTS = ("weight", "pos_weight")
# what they give depends on output - target alone, so that both may be standardised
OF_DIFFERENCES = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)
INDEX_LOSSES = (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss)  # take a class index a sample

UNSUPPORTED = ("MultiLabelMarginLoss",)  # lists of class indices, padded with -1


class Loss:
    """A torch.nn loss over (outputs [b, k], targets as the data gives them).

    Class indices become one-hot rows for losses that compare values (L1, MSE, BCE …), and targets take the outputs'
    shape: a broadcast of [b] against [b, 1] would train on nonsense without a word. With a `unit` both are
    standardised first; only losses of differences can be.
    """

    def __init__(self, module: nn.Module, unit: Unstandardise | None = None) -> None:
        self.module = module
        self.unit = unit if isinstance(module, OF_DIFFERENCES) else None
        self.reduction: str = getattr(module, "reduction", "mean")
        self.summed = self.reduction == "sum"
        self._unreduced = copy.copy(module)
        self._unreduced.reduction = "none"  # type: ignore[assignment]

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        outputs, targets = outputs.float(), self._fitting(targets, outputs)
        if self.unit is not None:
            outputs, targets = self.unit.standardised(outputs), self.unit.standardised(targets)
        loss: Tensor = self.module(outputs, targets)
        return loss

    def share(self, local: int, total: int, world: int) -> float:
        """The factor that makes this process's `local` samples count as part of a step over `total` samples.

        Gradients are averaged over `world` processes and added up over accumulated batches.
        """
        return float(world) if self.summed else local * world / total

    def total(self, loss: Tensor, samples: int) -> Tensor:
        """The sum over a batch's samples, from the loss that is their mean or sum."""
        return loss if self.summed else loss * samples

    def each(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of every sample and its weight, both [b]: over any set of samples the loss is the sum of the first
        by the sum of the second (or, where the loss is `summed`, the sum of the first).

        The weight is 1 but where a class weight divides by itself, as in CrossEntropyLoss: there a mean of the batches'
        means would depend on how the samples fall into batches.
        """
        targets = self._fitting(targets, outputs)
        values: Tensor = self._unreduced(outputs.float(), targets)
        if values.ndim > 1:
            summed = self.summed or self.reduction == "batchmean"
            values = values.flatten(1).sum(1) if summed else values.flatten(1).mean(1)
        return values, self._weights(targets, values)

    def _weights(self, targets: Tensor, values: Tensor) -> Tensor:
        if not isinstance(self.module, DIVIDE_BY_WEIGHT):
            return torch.ones_like(values)
        kept = targets != self.module.ignore_index
        given = self.module.weight
        weights = torch.ones_like(values) if given is None else given[targets.where(kept, 0)].to(values.dtype)
        return weights * kept

    def _fitting(self, targets: Tensor, outputs: Tensor) -> Tensor:
        if not targets.is_floating_point():
            if isinstance(self.module, INDEX_LOSSES):
                return targets
            if outputs.ndim == 2 and outputs.shape[1] > 1:
                targets = F.one_hot(targets, outputs.shape[1])
        targets = targets.to(torch.float32)
        if targets.shape != outputs.shape and targets.numel() == outputs.numel():
            targets = targets.view_as(outputs)
        if targets.shape != outputs.shape:
            shapes = f"outputs {list(outputs.shape)}, targets {list(targets.shape)}"
            hint = "swap_head: auto" if outputs.ndim == 2 else "let the network end in [b, k], for instance by pooling"
            raise InputError(f"the network's outputs do not fit the data: {shapes}", suggestion=hint)
        return targets


def plain(value: Named) -> Named:
    """The loss to measure with: the one called `value` without label smoothing, which is for training."""
    name, arguments = named(value)
    arguments.pop("label_smoothing", None)
    return {name: arguments} if arguments else name


def standardises(value: Named) -> bool:
    """Whether the loss called `value` can be taken of standardised targets, where the task is a regression."""
    name, _ = named(value)
    return name == "auto" or find("losses", name) in OF_DIFFERENCES


def label_of(value: Named) -> str:
    """What a display calls numbers of the loss called `value`: weighted, where classes count differently in it."""
    return "weighted loss" if any(named(value)[1].get(key) is not None for key in WEIGHTS) else "loss"


def check_loss(value: Named, task: str, outputs: int, *, label_smoothing: float = 0.0) -> None:
    """Raises InputError, as `make_loss` and where the loss does not work on that many outputs: a weight too many."""
    loss = make_loss(value, task, label_smoothing=label_smoothing)
    name = type(loss.module).__name__
    for key in WEIGHTS:
        weights = getattr(loss.module, key, None)
        if weights is not None and weights.numel() not in (1, outputs):
            message = f"loss {name}: {key} has {weights.numel()} values, the data has {outputs} "
            raise InputError(message + ("values a target" if task == "regression" else "classes"))
    targets = torch.zeros(2, dtype=torch.int64) if task == "classification" else torch.zeros(2, outputs)
    try:
        loss(torch.zeros(2, outputs), targets)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"loss {name} does not work on {outputs} outputs: {error}") from error


def make_loss(
    value: Named,
    task: str,
    *,
    label_smoothing: float = 0.0,
    device: torch.device | str = "cpu",
    unit: Unstandardise | None = None,
) -> Loss:
    """The loss called `value`: `auto` by task, a short name, or any torch.nn loss of one output and one target.

    With `unit`, that of a model that gives its values by way of it, a loss of differences is one of standardised ones.
    Raises InputError for unknown names, arguments it does not take, `reduction: none`, and label smoothing where the
    loss has none.
    """
    name, arguments = named(value)
    if name == "auto":
        name = BY_TASK[task]
    if name in UNSUPPORTED:
        raise InputError(f"loss {name} takes targets of a form that zoo's data does not have")
    factory = find("losses", name)
    assert factory is not None
    known = inspect.signature(factory).parameters
    if label_smoothing:
        if "label_smoothing" not in known:
            hint = "remove label_smoothing, which CrossEntropyLoss takes"
            raise InputError(f"{name} has no label smoothing", suggestion=hint)
        arguments = {"label_smoothing": label_smoothing} | arguments
    if arguments.get("reduction") == "none":
        hint = "write reduction: mean, or sum"
        raise InputError(f"{name}: reduction none leaves no single value to minimise", suggestion=hint)
    try:
        module: nn.Module = factory(**{key: _tensor(key, given) for key, given in arguments.items()})
    except (TypeError, ValueError) as error:
        raise InputError(f"loss {name}: {error}", suggestion=f"it takes {', '.join(known)}") from error
    if any(True for _ in module.parameters()):
        raise InputError(f"loss {name} has parameters of its own", suggestion="make its layer a part of the model")
    return Loss(module.to(device), unit)


def _tensor(name: str, value: Any) -> Any:
    """Weights per class are tensors in torch and lists in YAML."""
    return torch.tensor(value, dtype=torch.float32) if name in WEIGHTS and value is not None else value
