"""Metrics by name, accumulated on the device and over all processes; and a model measured with them on batches."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, distributed, nn

from zoo.data.batches import Batch
from zoo.errors import InputError, WorkError, ZooError, did_you_mean
from zoo.model.prediction import prediction
from zoo.model.undisturbed import undisturbed
from zoo.recipe.catalogue import find
from zoo.recipe.options import Named
from zoo.training.losses import Loss, make_loss
from zoo.training.optimizers import named

DEFAULTS = {"classification": ["accuracy"], "multilabel": ["average_precision"], "regression": ["mae"]}
# short name -> torchmetrics' name after Multiclass or Multilabel, and zoo's defaults where they are others
CLASS_METRICS: dict[str, tuple[str, dict[str, Any]]] = {
    "accuracy": ("Accuracy", {"average": "micro"}),
    "top5": ("Accuracy", {"average": "micro", "top_k": 5}),
    "balanced_accuracy": ("Accuracy", {"average": "macro"}),
    "f1": ("F1Score", {}),
    "precision": ("Precision", {}),
    "recall": ("Recall", {}),
    "average_precision": ("AveragePrecision", {}),
    "auroc": ("AUROC", {}),
}
VALUE_METRICS = {"mae": "L1Loss", "mse": "MSELoss", "r2": "R2Score", "pearson": "PearsonCorrCoef"}


class Metric(Protocol):
    higher_is_better: bool

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Adds a batch: logits or values [b, k], targets as the data gives them."""
        ...

    def compute(self) -> Tensor:
        """The value over all samples of all processes since the last call, and a reset."""
        ...


class Average:
    """The mean over samples of what `total(outputs, targets)` sums over a batch; with `summed` the sum."""

    def __init__(
        self, total: Callable[[Tensor, Tensor], Tensor], *, higher_is_better: bool, summed: bool = False
    ) -> None:
        self.total = total
        self.higher_is_better = higher_is_better
        self.summed = summed
        self._parts: list[Tensor] = []
        self._samples = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self._parts.append(self.total(outputs, targets).detach())
        self._samples += len(targets)

    def compute(self) -> Tensor:
        device = self._parts[0].device if self._parts else torch.device("cpu")
        total = torch.stack([part.float() for part in self._parts]).sum() if self._parts else torch.zeros(())
        both = torch.stack([total, torch.tensor(float(self._samples), device=device)])
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(both)
        self._parts, self._samples = [], 0
        return both[0] if self.summed else both[0] / both[1]


class FromTorchmetrics:
    """A torchmetrics object, given probabilities where the task has classes; it reduces over processes itself."""

    def __init__(self, metric: Any, task: str) -> None:
        self.metric = metric
        self.task = task
        self.higher_is_better = bool(metric.higher_is_better)

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        if self.task == "classification":
            self.metric.update(outputs.softmax(-1), targets)
        elif self.task == "multilabel":
            self.metric.update(outputs.sigmoid(), targets.long())
        else:
            self.metric.update(outputs.reshape(targets.shape), targets)

    def compute(self) -> Tensor:
        value: Tensor = self.metric.compute()
        self.metric.reset()
        return value


class Metrics:
    """Several metrics under the names they were asked for; the first one decides which epoch is best."""

    def __init__(self, metrics: dict[str, Metric]) -> None:
        self.metrics = metrics
        self.main = next(iter(metrics))
        self.higher_is_better = metrics[self.main].higher_is_better

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        for metric in self.metrics.values():
            metric.update(outputs, targets)

    def compute(self) -> dict[str, float]:
        return {name: float(metric.compute()) for name, metric in self.metrics.items()}


def make_metrics(
    values: Sequence[Named] | None, task: str, outputs: int, device: torch.device | str = "cpu"
) -> Metrics:
    """The metrics called `values` for a task with `outputs` classes or values; the task's usual one without.

    A name is a short one, a loss, or a torchmetrics class that gives one number; where one comes twice, its arguments
    are part of it: `f1(average=micro)`. Raises InputError for names that do not fit the task, for arguments a metric
    does not take, and for a metric that comes twice with the same ones.
    """
    asked = [named(value) for value in values or DEFAULTS[task]]
    names = [name for name, _ in asked]
    made: dict[str, Metric] = {}
    for name, arguments in asked:
        called = name
        if names.count(name) > 1 and arguments:
            called = f"{name}({', '.join(f'{key}={given}' for key, given in arguments.items())})"
        if called in made:
            raise InputError(f"the metric {called!r} is asked for twice", suggestion="remove one of them")
        made[called] = _make(name, arguments, task, outputs, device)
    return Metrics(made)


def _make(name: str, arguments: dict[str, Any], task: str, outputs: int, device: torch.device | str) -> Metric:
    if name == "accuracy" and task == "classification" and not arguments:
        return Average(_correct, higher_is_better=True)
    usual = VALUE_METRICS if task == "regression" else CLASS_METRICS
    if name not in usual and (name in CLASS_METRICS or name in VALUE_METRICS):
        hint = did_you_mean(name, usual) or f"for instance {', '.join(list(usual)[:3])}"
        raise InputError(f"metric {name!r} does not fit a {task} task", suggestion=hint)
    if (full := VALUE_METRICS.get(name, name)).endswith("Loss"):
        return _average_loss(full, arguments, task, device)
    return _from_torchmetrics(name, arguments, task, outputs, device)


def _correct(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(-1) == targets).sum()


def _average_loss(name: str, arguments: dict[str, Any], task: str, device: torch.device | str) -> Metric:
    loss = make_loss({name: arguments}, task, device=device)
    total = lambda outputs, targets: loss.total(loss(outputs, targets), len(targets))  # noqa: E731
    return Average(total, higher_is_better=False, summed=loss.summed)


def _from_torchmetrics(
    name: str, arguments: dict[str, Any], task: str, outputs: int, device: torch.device | str
) -> Metric:
    import torchmetrics

    if name in CLASS_METRICS:
        suffix, defaults = CLASS_METRICS[name]
        defaults = {**defaults, "validate_args": False}  # its checks wait for the device in every step
        if "top_k" in defaults:
            defaults["top_k"] = min(defaults["top_k"], outputs)
        kind = "Multiclass" if task == "classification" else "Multilabel"
        factory = getattr(torchmetrics.classification, f"{kind}{suffix}")
    else:
        factory, defaults = find("metrics", VALUE_METRICS.get(name, name)), {}
    assert isinstance(factory, type)
    known = {**inspect.signature(factory.__new__).parameters, **inspect.signature(factory.__init__).parameters}  # type: ignore[misc]
    supplied = {**defaults, "num_classes": outputs, "num_labels": outputs}
    if task != "regression":
        supplied["task"] = "multiclass" if task == "classification" else "multilabel"
    try:
        metric = factory(**{key: value for key, value in supplied.items() if key in known}, **arguments)
        return _tried(FromTorchmetrics(metric.to(device), task), task, outputs, device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"metric {name} for a {task} task: {error}") from error


def _tried(metric: FromTorchmetrics, task: str, outputs: int, device: torch.device | str) -> Metric:
    """The metric, once it gave one number for a made-up batch: better now than after the first epoch."""
    values = torch.linspace(-1, 1, 4 * outputs, device=device).reshape(outputs, 4).T
    targets = torch.arange(4, device=device) % outputs if task == "classification" else (values > 0).float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric.update(values, targets)
        value = metric.compute()
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise ValueError("it gives more than one number")
    return metric


def measure(
    model: nn.Module, forward: Callable[[Any], Any], batches: Iterable[Batch], loss: Loss, metrics: Metrics
) -> dict[str, float]:
    """`{"loss": …, metric: …}` of `forward` over `batches`, with the model in evaluation mode."""
    average = Average(lambda outputs, targets: loss.total(loss(outputs, targets), len(targets)), higher_is_better=False)
    try:
        with undisturbed(model, training=False), torch.inference_mode():
            for batch in batches:
                outputs = prediction(forward(batch.inputs)).float()
                average.update(outputs, batch.targets)
                metrics.update(outputs, batch.targets)
            return {"loss": float(average.compute()), **metrics.compute()}
    except ZooError:
        raise
    except Exception as error:
        raise explain(error, "measuring") from error


def explain(error: Exception, doing: str) -> ZooError:
    """An error of torch as one that says what to do about it."""
    text = str(error).strip().partition("\n")[0]
    if isinstance(error, torch.OutOfMemoryError) or "not enough memory" in text or isinstance(error, MemoryError):
        hint = "set a smaller batch_size (accumulate makes up for it) or image_size"
        return WorkError(f"out of memory while {doing}: {text}", suggestion=hint)
    if isinstance(error, IndexError) and "Target" in text:
        return InputError(f"the network has too few outputs for the data: {text}", suggestion="swap_head: auto")
    return WorkError(f"{doing} failed: {type(error).__name__}: {text}")
