"""Losses by name, with targets converted to what each one takes; and zoo's own, beside those of torch.nn."""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from zoo.errors import InputError, WorkError
from zoo.model.unstandardise import Unstandardise
from zoo.recipe.catalogue import bound, component_of, find
from zoo.recipe.options import Named
from zoo.registry import Component
from zoo.training.components import blamed, source_of
from zoo.training.optimizers import named

BY_TASK = {"classification": "CrossEntropyLoss", "multilabel": "BCEWithLogitsLoss", "regression": "MSELoss"}
DIVIDE_BY_WEIGHT = (nn.CrossEntropyLoss, nn.NLLLoss)  # their mean is one by the weights of the targets' classes
WEIGHTS = ("weight", "pos_weight")
# what they give depends on output - target alone, so that both may be standardised
OF_DIFFERENCES = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)
INDEX_LOSSES = (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss)  # take a class index a sample
ONLY_INDICES = (nn.NLLLoss, nn.MultiMarginLoss)
NO_SHARES = "takes one class a sample, and these samples have shares of several"
TAKES_SHARES = "cross_entropy, focal and bce take them"

UNSUPPORTED = ("MultiLabelMarginLoss",)  # lists of class indices, padded with -1


def focal(
    outputs: Tensor,
    targets: Tensor,
    *,
    gamma: float = 2.0,
    alpha: float | None = None,
    weight: list[float] | None = None,
    pos_weight: list[float] | None = None,
    task: str | None = None,
) -> Tensor:
    """Focal loss (Lin et al., 2017): cross-entropy in which samples that are answered well already count less.

    A sample's cross-entropy is multiplied by (1 - p)^gamma, p being the probability of its class; with several labels a
    sample each label counts so, by torchvision's `sigmoid_focal_loss`. `alpha` weighs what is there, 1 - alpha what is
    not; of classes it weighs all alike. Shares of classes [b, k] (`task` is classification) give the mean of the
    classes' values by these shares. A class counts its `weight`; of several labels one that is there its `pos_weight`.
    """
    if not targets.is_floating_point():
        surprise = F.cross_entropy(outputs, targets, reduction="none")
    elif task != "classification":
        values: Tensor = sigmoid_focal_loss(outputs, targets, -1 if alpha is None else alpha, gamma)
        return (values * _presence(targets, pos_weight)).mean(-1)
    else:
        surprise = -outputs.log_softmax(-1)
    found = (1.0 if alpha is None else alpha) * (1 - (-surprise).exp()) ** gamma * surprise
    if weight is not None:
        by_class = torch.as_tensor(weight).to(outputs)
        found = found * (by_class if found.ndim > 1 else by_class[targets])
    return (targets * found).sum(-1) if found.ndim > 1 else found


def _presence(targets: Tensor, pos_weight: Any) -> Tensor | float:
    """What each label of a target counts: `pos_weight` in so far as it is there, 1 where it is not."""
    if pos_weight is None:
        return 1.0
    counted: Tensor = 1 + (torch.as_tensor(pos_weight).to(targets) - 1) * targets
    return counted


def asymmetric(
    outputs: Tensor,
    targets: Tensor,
    *,
    gamma_negative: float = 4.0,
    gamma_positive: float = 1.0,
    clip: float = 0.05,
    pos_weight: list[float] | None = None,
) -> Tensor:
    """Asymmetric loss (Ridnik et al., 2021) for several labels a sample: absent labels, the many, count less than
    present ones, and not at all where their probability is below `clip`. A sample's value is the sum over its labels,
    as in timm's AsymmetricLossMultiLabel; class indices count as one label of all. A label that is there counts its
    `pos_weight`.
    """
    if not targets.is_floating_point():
        targets = F.one_hot(targets, outputs.shape[1]).to(outputs)
    present = outputs.sigmoid()
    absent = (1 - present + clip).clamp(max=1)
    logarithms = targets * present.clamp(min=1e-8).log() + (1 - targets) * absent.clamp(min=1e-8).log()
    right = present * targets + absent * (1 - targets)
    focus = (1 - right) ** (gamma_positive * targets + gamma_negative * (1 - targets))
    values: Tensor = -(logarithms * focus * _presence(targets, pos_weight)).sum(-1)
    return values


class Loss:
    """A torch.nn loss over (outputs [b, k], targets as the data gives them).

    Class indices become one-hot rows for losses that compare values (L1, MSE, BCE …), and targets take the outputs'
    shape: a broadcast of [b] against [b, 1] would train on nonsense without a word. Of a classification targets may
    also be soft: float [b, classes], each class's share of a sample, as mixed samples have them. With a `unit` both
    are standardised first; only losses of differences can be. With a `mean_weight` the mean over a batch is divided by
    it, in place of the class weights of that batch: what a sample counts then depends on no other.
    """

    def __init__(self, module: nn.Module, unit: Unstandardise | None = None, mean_weight: float | None = None) -> None:
        self.module, self.mean_weight = module, mean_weight
        self.unit = unit if isinstance(module, OF_DIFFERENCES) else None
        self.reduction: str = getattr(module, "reduction", "mean")
        self.summed = self.reduction == "sum"
        self.own: Any = None  # a plugin's, which may have a state of its own
        self._unreduced = copy.copy(module)
        self._unreduced.reduction = "none"  # type: ignore[assignment]

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.mean_weight is not None and not self.summed:
            return self.each(outputs, targets)[0].mean() / self.mean_weight
        outputs, targets = outputs.float(), self._fitting(targets, outputs)
        if self.unit is not None:
            outputs, targets = self.unit.standardised(outputs), self.unit.standardised(targets)
        if isinstance(self.module, DIVIDE_BY_WEIGHT) and targets.is_floating_point() and not self.summed:
            values, weights = self.each(outputs, targets)  # torch divides by the number of samples, of soft targets
            return values.sum() / weights.sum()
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
        given = self.module.weight
        if targets.is_floating_point():
            return torch.ones_like(values) if given is None else targets @ given
        kept = targets != self.module.ignore_index
        weights = torch.ones_like(values) if given is None else given[targets.where(kept, 0)].to(values.dtype)
        return weights * kept

    def _fitting(self, targets: Tensor, outputs: Tensor) -> Tensor:
        if not targets.is_floating_point():
            if isinstance(self.module, INDEX_LOSSES):
                return targets
            if outputs.ndim == 2 and outputs.shape[1] > 1:
                targets = F.one_hot(targets, outputs.shape[1])
        elif isinstance(self.module, ONLY_INDICES):
            raise InputError(f"{type(self.module).__name__} {NO_SHARES}", suggestion=TAKES_SHARES)
        targets = targets.to(torch.float32)
        if targets.shape != outputs.shape and targets.numel() == outputs.numel():
            targets = targets.view_as(outputs)
        if targets.shape != outputs.shape:
            shapes = f"outputs {list(outputs.shape)}, targets {list(targets.shape)}"
            hint = "swap_head: auto" if outputs.ndim == 2 else "let the network end in [b, k], for instance by pooling"
            raise InputError(f"the network's outputs do not fit the data: {shapes}", suggestion=hint)
        return targets


class ComponentLoss(Loss):
    """A plugin's loss, called with targets as the data gives them: class indices [b], or floats in the outputs' shape;
    of a classification these are shares of the classes.

    It gives a value a sample, which are averaged; a module with `reduction` is called as torch's are.
    """

    def __init__(self, called: Any, component: Component) -> None:
        self.called, self.component = called, component
        self.reduces = isinstance(called, nn.Module) and hasattr(called, "reduction")
        super().__init__(called if isinstance(called, nn.Module) else nn.Identity())
        self.summed = self.reduces and self.summed
        self.own = called

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if not self.reduces:
            return self.each(outputs, targets)[0].mean()
        with blamed(self.component):
            return super().__call__(outputs, targets)

    def each(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        with blamed(self.component):
            if self.reduces:
                return super().each(outputs, targets)
            values: Any = self.called(outputs.float(), self._fitting(targets, outputs))
        if not isinstance(values, Tensor) or values.ndim == 0 or len(values) != len(outputs):
            gives = str(list(values.shape)) if isinstance(values, Tensor) else type(values).__name__
            where = f"{gives} for outputs {list(outputs.shape)}"
            message = f"{source_of(self.component)} gives {where}, not a value a sample"
            raise InputError(message, suggestion="let it return [b] or [b, k], without a mean over the batch")
        values = values.flatten(1).mean(1) if values.ndim > 1 else values
        return values, torch.ones_like(values)

    def _fitting(self, targets: Tensor, outputs: Tensor) -> Tensor:
        return super()._fitting(targets, outputs) if targets.is_floating_point() else targets


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


def check_loss(value: Named, task: str, outputs: int, *, label_smoothing: float = 0.0, soft: bool = False) -> None:
    """Raises InputError, as `make_loss` and where the loss does not work on that many outputs: a weight too many.

    With `soft` also for one that does not give for one-hot rows what it gives for the class indices.
    """
    loss = make_loss(value, task, label_smoothing=label_smoothing)
    name = loss.component.name if isinstance(loss, ComponentLoss) else type(loss.module).__name__
    for key in WEIGHTS:
        weights = named(value)[1].get(key)
        if isinstance(weights, list) and len(weights) not in (1, outputs):
            message = f"loss {name}: {key} has {len(weights)} values, the data has {outputs} "
            raise InputError(message + ("values a target" if task == "regression" else "classes"))
    targets = torch.zeros(2, dtype=torch.int64) if task == "classification" else torch.zeros(2, outputs)
    given = torch.zeros(2, outputs, requires_grad=True)
    try:
        value_of_both = loss(given, targets)
        loss.each(given, targets)
        if soft and task == "classification":
            _check_soft(loss, name, outputs)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"loss {name} does not work on {outputs} outputs: {error}") from error
    if not value_of_both.requires_grad:
        raise InputError(f"loss {name} gives no gradient: nothing would train")


def _check_soft(loss: Loss, name: str, outputs: int) -> None:
    """Raises InputError for a loss of a classification that takes one-hot rows for something else than classes."""
    given = torch.arange(2.0 * outputs).view(2, outputs).sin()
    classes = torch.arange(2) % outputs
    of_classes, _ = loss.each(given, classes)
    try:
        of_rows, _ = loss.each(given, F.one_hot(classes, outputs).float())
        said = "for a class's row of 1 and 0 it gives another value than for the class"
    except WorkError as error:
        of_rows, said = of_classes.new_full((), math.nan), str(error.problems[0].message)
    if not torch.allclose(of_classes, of_rows, rtol=1e-4, atol=1e-5):
        raise InputError(f"loss {name} {NO_SHARES}: {said}", suggestion=TAKES_SHARES)


def make_loss(
    value: Named,
    task: str,
    *,
    label_smoothing: float = 0.0,
    device: torch.device | str = "cpu",
    unit: Unstandardise | None = None,
    mean_weight: float | None = None,
) -> Loss:
    """The loss called `value`: `auto` by task, a short name, a torch.nn loss of one output and one target, a plugin's.

    With `unit`, that of a model that gives its values by way of it, a loss of differences is one of standardised ones;
    `mean_weight` is that of its class weights over an epoch (see `Loss`).
    Raises InputError for unknown names, arguments it does not take, `reduction: none`, and label smoothing where the
    loss has none.
    """
    name, arguments = named(value)
    if name == "auto":
        name = BY_TASK[task]
    if name in UNSUPPORTED:
        raise InputError(f"loss {name} takes targets of a form that zoo's data does not have")
    factory, component = find("losses", name), component_of("losses", name)
    assert factory is not None
    known = inspect.signature(factory).parameters
    if label_smoothing:
        if "label_smoothing" not in known:
            hint = "remove label_smoothing, which CrossEntropyLoss takes"
            raise InputError(f"{name} has no label smoothing", suggestion=hint)
        arguments = {"label_smoothing": label_smoothing} | arguments
    if component is not None and "task" in known:
        arguments["task"] = task
    if arguments.get("reduction") == "none":
        hint = "write reduction: mean, or sum"
        raise InputError(f"{name}: reduction none leaves no single value to minimise", suggestion=hint)
    try:
        with blamed(component):
            made = bound("losses", factory, {key: _tensor(key, given, device) for key, given in arguments.items()})
    except (TypeError, ValueError) as error:
        raise InputError(f"loss {name}: {error}", suggestion=f"it takes {', '.join(known)}") from error
    if not isinstance(made, nn.Module):
        assert component is not None
        return ComponentLoss(made, component)
    if any(True for _ in made.parameters()):
        raise InputError(f"loss {name} has parameters of its own", suggestion="make its layer a part of the model")
    made = made.to(device)
    return Loss(made, unit, mean_weight) if component is None else ComponentLoss(made, component)


def _tensor(name: str, value: Any, device: torch.device | str) -> Any:
    """Weights per class are tensors in torch and lists in YAML."""
    return torch.tensor(value, dtype=torch.float32, device=device) if name in WEIGHTS and value is not None else value
