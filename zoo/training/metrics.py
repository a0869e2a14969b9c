"""Metrics by name: accumulated over batches and processes in the training loop, or computed of all samples at once."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from zoo.data.batches import Batch, loader_ended
from zoo.errors import InputError, WorkError, ZooError, did_you_mean, is_out_of_memory
from zoo.model.prediction import prediction
from zoo.model.undisturbed import undisturbed
from zoo.recipe.catalogue import LOSSES, bound, component_of, find
from zoo.recipe.options import Named
from zoo.registry import Component
from zoo.training.components import blamed, restore_state, source_of, state_of
from zoo.training.intervals import Interval, bootstrap, bootstrap_ratio, wilson
from zoo.training.labels import class_of
from zoo.training.library_metrics import CLASS, CLASS_METRICS, VALUE_METRICS, Answers, from_torchmetrics, tried
from zoo.training.losses import Loss, make_loss
from zoo.training.optimizers import named

DEFAULTS = {"classification": ["accuracy"], "multilabel": ["average_precision"], "regression": ["mae"]}


class Metric(Protocol):
    higher_is_better: bool

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Adds a batch: logits or values [b, k], targets as the data gives them."""
        ...

    def compute(self) -> float:
        """The value over all samples since the last call, and a reset; NaN where they do not define one."""
        ...

    def interval(self, value: float, outputs: Tensor, targets: Tensor) -> Interval | None:
        """The 95 % interval of `value`, which was computed of these samples."""
        ...


class Average:
    """The mean over samples of what `each(outputs, targets)` gives: values and weights, both [b]; with `summed` the
    sum of the values. With `share` each value is 0 or 1, so that the mean is a share.

    Every sample's value is kept, and they are added in float64 at the end, whatever the batches were.
    """

    def __init__(
        self,
        each: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        *,
        higher_is_better: bool,
        summed: bool = False,
        share: bool = False,
        local: bool = False,
    ) -> None:
        self.each = each
        self.higher_is_better = higher_is_better
        self.summed, self.share, self.local = summed, share, local
        self._kept: list[tuple[Tensor, Tensor]] = []

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        values, weights = self.each(outputs, targets)
        self._kept.append((values.detach(), weights.detach()))

    def compute(self) -> float:
        sums = torch.zeros(2, dtype=torch.float64)
        if self._kept:
            sums = torch.stack([torch.cat(rows).cpu().double().sum() for rows in zip(*self._kept, strict=True)])
        if not self.local and distributed.is_available() and distributed.is_initialized():
            device = self._kept[0][0].device if self._kept else torch.device("cpu")
            sums = sums.to(device)
            distributed.all_reduce(sums)
        self._kept = []
        total, weight = sums.tolist()
        return total if self.summed else total / weight if weight else math.nan

    def interval(self, value: float, outputs: Tensor, targets: Tensor) -> Interval | None:
        if self.share:
            return wilson(value, len(targets))
        values, weights = (row.double().numpy() for row in self.each(outputs, targets))
        return bootstrap_ratio(values, np.full_like(weights, 1 / len(targets)) if self.summed else weights)


class OfAllSamples:
    """A plugin's function of all outputs and targets at once; every sample is kept until then, of all processes."""

    def __init__(
        self, called: Any, component: Component, task: str, *, higher_is_better: bool, local: bool = False
    ) -> None:
        self.called, self.component, self.task, self.local = called, component, task, local
        self.higher_is_better = higher_is_better
        self._kept: list[tuple[Tensor, Tensor]] = []

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        if self.task == "classification":
            targets = class_of(targets)
        if targets.is_floating_point() and targets.numel() == outputs.numel():
            targets = targets.view_as(outputs)
        self._kept.append((outputs.detach().cpu(), targets.detach().cpu()))

    def compute(self) -> float:
        kept, self._kept = self._kept, []
        if not self.local and distributed.is_available() and distributed.is_initialized():
            shares: list[Any] = [None] * distributed.get_world_size()
            distributed.all_gather_object(shares, kept)
            kept = [pair for share in shares for pair in share]
        outputs, targets = (torch.cat(rows) for rows in zip(*kept, strict=True))
        return self._value(outputs, targets)

    def _value(self, outputs: Tensor, targets: Tensor) -> float:
        with blamed(self.component):
            value = self.called(outputs, targets)
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            message = f"{source_of(self.component)} gives {type(value).__name__}, not one number"
            raise InputError(message) from error

    def interval(self, value: float, outputs: Tensor, targets: Tensor) -> Interval | None:
        def again(positions: NDArray[np.int64]) -> float:
            chosen = torch.from_numpy(positions)
            self.update(outputs[chosen], targets[chosen])
            return self.compute()

        return bootstrap(again, len(targets), outputs[0].numel())


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
        return {name: metric.compute() for name, metric in self.metrics.items()}

    def state_dict(self) -> dict[str, Any]:
        """What a plugin's metrics have to know again in a resumed run, by their names."""
        own = {name: m.called for name, m in self.metrics.items() if isinstance(m, OfAllSamples)}
        return {name: state for name, called in own.items() if (state := state_of(called)) is not None}

    def load_state_dict(self, states: Mapping[str, Any]) -> None:
        for name, metric in self.metrics.items():
            if isinstance(metric, OfAllSamples):
                restore_state(metric.called, states.get(name))

    def intervals(self, values: Mapping[str, float], outputs: Tensor, targets: Tensor) -> dict[str, Interval | None]:
        """The 95 % interval of each of `values`; None where the value itself or every resample is undefined."""
        return {
            name: metric.interval(values[name], outputs, targets) if math.isfinite(values[name]) else None
            for name, metric in self.metrics.items()
        }


def make_metrics(
    values: Sequence[Named] | None,
    task: str,
    outputs: int,
    device: torch.device | str = "cpu",
    *,
    local: bool = False,
    thresholds: Sequence[float] = (),
    classes: Sequence[str] = (),
) -> Metrics:
    """The metrics called `values` for a task with `outputs` classes or values; the task's usual one without. They are
    those of all processes' samples together, with `local` of this process's.

    A name is a short one, a loss, or a torchmetrics class that gives one number; where one comes twice, its arguments
    are part of it: `f1(average=micro)`. With the argument `class` it is the value of that one of `classes` (of their
    numbers without any): `f1(class=cat)`. `thresholds` are those from which on each label of a multilabel task counts
    as there, 0.5 without, in metrics that are given no threshold of their own.

    Raises InputError for names that do not fit the task, for arguments a metric does not take, for a class that is not
    there, and for a metric that comes twice with the same ones.
    """
    wanted = values or DEFAULTS[task]
    answers = Answers(task, outputs, device, local, tuple(thresholds), tuple(classes))
    made: dict[str, Metric] = {}
    for called, value in zip(names_of(wanted), wanted, strict=True):
        if called in made:
            raise InputError(f"the metric {called!r} is asked for twice", suggestion="remove one of them")
        made[called] = _make(*named(value), answers)
    return Metrics(made)


def names_of(values: Sequence[Named]) -> list[str]:
    """What metrics are called in reports: their names, with the arguments where a name comes twice, or where they are
    of one class."""
    asked = [named(value) for value in values]
    names = [name for name, _ in asked]
    return [
        f"{name}({', '.join(f'{key}={given}' for key, given in arguments.items())})"
        if arguments and (names.count(name) > 1 or CLASS in arguments)
        else name
        for name, arguments in asked
    ]


def _make(name: str, arguments: dict[str, Any], answers: Answers) -> Metric:
    task = answers.task
    if (component := component_of("metrics", name)) is not None:
        return _of_component(component, name, arguments, answers)
    if name == "accuracy" and task == "classification" and not arguments:
        return Average(_correct, higher_is_better=True, share=True, local=answers.local)
    usual = VALUE_METRICS if task == "regression" else CLASS_METRICS
    if name not in usual and (name in CLASS_METRICS or name in VALUE_METRICS):
        hint = did_you_mean(name, usual) or f"for instance {', '.join(list(usual)[:3])}"
        raise InputError(f"metric {name!r} does not fit a {task} task", suggestion=hint)
    if (full := VALUE_METRICS.get(name, LOSSES.get(name, name))).endswith("Loss"):
        return average_loss(make_loss({full: arguments}, task, device=answers.device), local=answers.local)
    return from_torchmetrics(name, arguments, answers)


def _of_component(component: Component, name: str, arguments: dict[str, Any], answers: Answers) -> Metric:
    """A plugin's metric, once it gave one number for a made-up batch."""
    import torchmetrics

    factory: Any = find("metrics", name)
    if inspect.isclass(factory) and issubclass(factory, torchmetrics.Metric):
        return from_torchmetrics(name, arguments, answers)
    try:
        with blamed(component):
            called = bound("metrics", factory, arguments)
    except WorkError as error:
        raise InputError(error.problems) from error
    higher = bool(getattr(called, "higher_is_better", getattr(factory, "higher_is_better", True)))
    before = state_of(called)
    metric = OfAllSamples(called, component, answers.task, higher_is_better=higher, local=True)
    try:
        tried(metric, answers)
    except WorkError as error:
        raise InputError(error.problems) from error
    restore_state(called, before)
    metric.local = answers.local
    return metric


def _correct(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    right = (outputs.argmax(-1) == class_of(targets)).float()
    return right, torch.ones_like(right)


def average_loss(loss: Loss, *, local: bool = False) -> Average:
    """A loss as a metric: over all samples, whatever the batches were."""
    return Average(loss.each, higher_is_better=False, summed=loss.summed, local=local)


def measure(
    model: nn.Module, forward: Callable[[Any], Any], batches: Iterable[Batch], loss: Loss, metrics: Metrics
) -> dict[str, float]:
    """`{"loss": …, metric: …}` of `forward` over `batches`, with the model in evaluation mode, as the loop shows it."""
    average = average_loss(loss)
    with explained("measuring"), undisturbed(model, training=False), torch.inference_mode():
        for batch in batches:
            outputs = prediction(forward(batch.inputs)).float()
            average.update(outputs, batch.targets)
            metrics.update(outputs, batch.targets)
        return {"loss": average.compute(), **metrics.compute()}


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """What torch raises in the block as an error that says what to do about it; zoo's own pass through."""
    try:
        yield
    except ZooError:
        raise
    except Exception as error:
        raise explain(error, doing) from error


def explain(error: Exception, doing: str) -> ZooError:
    """An error of torch as one that says what to do about it."""
    text = str(error).strip().partition("\n")[0]
    if (ended := loader_ended(error)) is not None:
        return ended
    if is_out_of_memory(error):
        hint = "set a smaller batch_size (accumulate makes up for it) or image_size"
        return WorkError(f"out of memory while {doing}: {text}", suggestion=hint)
    if isinstance(error, IndexError) and "Target" in text:
        return InputError(f"the network has too few outputs for the data: {text}", suggestion="swap_head: auto")
    if "more than 1 value per channel" in text:
        hint = "set batch_size to 2 or more for each process, or freeze the batch norms"
        return InputError(f"batch norm cannot train on a single sample, {doing}", suggestion=hint)
    return WorkError(f"{doing} failed: {type(error).__name__}: {text}")
