"""torchmetrics' metrics as zoo's: by short names or their own, of the classes that are there, or of one class."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed
from torch.nn import functional as F

from zoo.errors import InputError
from zoo.recipe.catalogue import find
from zoo.training.intervals import Interval, bootstrap, shares, wilson
from zoo.training.labels import THRESHOLD, class_of, hint_for, said

if TYPE_CHECKING:
    from zoo.training.metrics import Metric

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
LOCAL = {"sync_on_compute": False}
VALUE_METRICS = {"mae": "L1Loss", "mse": "MSELoss", "r2": "R2Score", "pearson": "PearsonCorrCoef"}

# their mean is one over the classes that the samples are of; torchmetrics itself counts an absent class as 0
OF_PRESENT = {
    *("MulticlassAUROC", "MulticlassAveragePrecision", "MulticlassRecall", "MulticlassAccuracy"),
    *("MultilabelAUROC", "MultilabelAveragePrecision", "MultilabelRecall"),
}
NEEDS_OTHERS = {"MulticlassAUROC", "MultilabelAUROC"}  # undefined also for a class that all samples are of
# of one class these are shares of counts, as the table of classes has them, and undefined where nothing is counted
COUNTED = {"precision": "Precision", "recall": "Recall", "f1": "F1Score"}
OF_ALL = ("accuracy", "balanced_accuracy", "top5", "Accuracy", "MulticlassAccuracy")
CLASS = "class"  # the argument that asks for the value of one class
SHARES = {"MulticlassAccuracy", "MulticlassPrecision", "MulticlassRecall", "MulticlassF1Score"}  # with average: micro


@dataclass(frozen=True)
class Answers:
    """What is measured: a network's `outputs` for a task, their `classes` by name, the `thresholds` from which on each
    label of a multilabel task counts as there; and where: on a device, of this process alone where it is `local`."""

    task: str
    outputs: int
    device: torch.device | str = "cpu"
    local: bool = False
    thresholds: Sequence[float] = ()
    classes: Sequence[str] = ()

    def place(self, name: str, asked: Any) -> int:
        """Which output the class is that a metric is asked of. Raises InputError where there is none of that name."""
        if self.task == "regression":
            raise InputError(f"metric {name}: a regression has no classes", suggestion=f"remove {CLASS}")
        classes = list(self.classes or map(str, range(self.outputs)))
        if str(asked) not in classes:
            raise InputError(f"metric {name}: there is no class {asked!r}", suggestion=hint_for(str(asked), classes))
        return classes.index(str(asked))


class FromTorchmetrics:
    """A torchmetrics object, given probabilities where the task has classes; it reduces over processes itself.

    With `present` it gives a value for each class, and the mean is taken over the classes that the samples are of; with
    `only` the value is that of the class at this place, NaN where the samples do not define it.
    Where it counts labels as there or not, it is given which ones are, by `thresholds`.
    """

    def __init__(
        self,
        metric: Any,
        task: str,
        *,
        present: bool = False,
        local: bool = False,
        thresholds: Tensor | None = None,
        only: int | None = None,
    ) -> None:
        self.metric, self.thresholds, self.only = metric, thresholds, only
        self.task = task
        self.higher_is_better = bool(metric.higher_is_better)
        self.present, self.local = present, local
        kind = type(metric).__name__
        self.needs_others = kind in NEEDS_OTHERS
        whole = getattr(metric, "average", None) == "micro" and getattr(metric, "ignore_index", None) is None
        self.share = kind in SHARES and whole
        plain = self.only is not None and getattr(metric, "top_k", 1) == 1 and metric.ignore_index is None
        kinds = {key: (f"Multiclass{name}", f"Multilabel{name}") for key, name in COUNTED.items()}
        self.counted = next((key for key, names in kinds.items() if plain and kind in names), None)
        self._counts: list[Tensor] = []

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        if self.task == "classification":
            targets = class_of(targets)
        if self.present:
            shown = F.one_hot(targets, outputs.shape[1]) if self.task == "classification" else said(targets)
            self._counts.append(F.pad(shown.sum(0), (0, 1), value=len(shown)).float())
        if self.task == "classification":
            self.metric.update(outputs.softmax(-1), targets)
        elif self.task == "multilabel":
            scores = outputs.sigmoid()
            if self.thresholds is not None:
                scores = (scores >= self.thresholds).to(scores.dtype)
            self.metric.update(scores, said(targets).long())
        else:
            self.metric.update(outputs.reshape(targets.shape), targets)

    def compute(self) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of classes that are absent, and the like
            value = self.metric.compute()
        self.metric.reset()
        defined = self._defined() if self.present else None
        if self.only is not None:
            value = value[self.only] if defined is None or defined[self.only] else torch.tensor(math.nan)
        elif defined is not None:
            value = value[defined]
            value = value.mean() if len(value) else torch.tensor(math.nan)
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise InputError(
                f"metric {type(self.metric).__name__} gives more than one number",
                suggestion="every report has precision, recall and F1 of each class: per_class",
            )
        return float(value)

    def _defined(self) -> Tensor:
        counts = torch.stack(self._counts).sum(0)
        if not self.local and distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(counts)
        self._counts = []
        there, samples = counts[:-1], counts[-1]
        return (there > 0) & ((there < samples) | (not self.needs_others))

    def interval(self, value: float, outputs: Tensor, targets: Tensor) -> Interval | None:
        if self.share:
            return wilson(value, len(targets))
        if self.counted:
            found: list[float] | None = shares(*self._counted(outputs, targets))[f"{self.counted}_interval"]
            return (found[0], found[1]) if found else None

        def again(positions: NDArray[np.int64]) -> float:
            chosen = torch.from_numpy(positions)
            self.update(outputs[chosen], targets[chosen])
            return self.compute()

        return bootstrap(again, len(targets), outputs[0].numel())

    def _counted(self, outputs: Tensor, targets: Tensor) -> tuple[int, int, int]:
        """How often the one class was found rightly, found at all, and there."""
        assert self.only is not None
        if self.task == "classification":
            guess, true = outputs.argmax(-1).eq(self.only), class_of(targets).eq(self.only)
        else:
            own = self.metric.threshold if self.thresholds is None else self.thresholds.cpu()
            guess, true = (rows[:, self.only] for rows in (outputs.sigmoid() >= own, said(targets)))
        return int((guess & true).sum()), int(guess.sum()), int(true.sum())


def from_torchmetrics(name: str, arguments: dict[str, Any], answers: Answers) -> Metric:
    """The metric of this name, a short one or a class of torchmetrics, once it gave one number for a made-up batch.

    Raises InputError for a name or arguments that do not fit the task, and for a class that is not there.
    """
    import torchmetrics

    task, outputs = answers.task, answers.outputs
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
    given = {key: value for key, value in supplied.items() if key in known} | (LOCAL if answers.local else {})
    only, arguments = _one_class(name, arguments, known, answers)
    try:
        metric = factory(**{**given, **arguments})
        present = type(metric).__name__ in OF_PRESENT and (only is not None or metric.average == "macro")
        if present:
            metric = factory(**{**given, **arguments, "average": "none"})
        if only is not None and hasattr(metric, "zero_division") and "zero_division" not in arguments:
            metric.zero_division = math.nan  # which its arguments may not be
        own = task != "multilabel" or "threshold" in arguments or getattr(metric, "threshold", None) is None
        judged = None if own else torch.tensor(list(answers.thresholds) or [THRESHOLD], device=answers.device)
        of: dict[str, Any] = {"present": present, "local": answers.local, "thresholds": judged, "only": only}
        return tried(FromTorchmetrics(metric.to(answers.device), task, **of), answers)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"metric {name} for a {task} task: {error}") from error


def _one_class(
    name: str, arguments: dict[str, Any], known: Collection[str], answers: Answers
) -> tuple[int | None, dict[str, Any]]:
    """The place of the class that a metric is asked of, and its other arguments, so that it gives a value for each."""
    if CLASS not in arguments:
        return None, arguments
    only, others = answers.place(name, arguments[CLASS]), {key: v for key, v in arguments.items() if key != CLASS}
    if answers.task == "classification" and name in OF_ALL:
        raise InputError(f"metric {name}: the accuracy of one class is its recall", suggestion="write recall")
    if "average" not in known:
        hint = f"{', '.join(COUNTED)}, average_precision and auroc have one"
        raise InputError(f"metric {name} has no value of one class", suggestion=hint)
    if "average" in others:
        raise InputError(f"metric {name}: {CLASS} is one class, average several", suggestion="remove one of them")
    return only, {**others, "average": "none"}


def tried(metric: Metric, answers: Answers) -> Metric:
    """The metric, once it gave one number for a made-up batch: better now than after the first epoch."""
    task, outputs, device = answers.task, answers.outputs, answers.device
    values = torch.linspace(-1, 1, 4 * outputs, device=device).reshape(outputs, 4).T
    targets = torch.arange(4, device=device) % outputs if task == "classification" else (values > 0).float()
    metric.update(values, targets)
    metric.compute()
    return metric
