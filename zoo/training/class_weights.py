"""Class weights of a loss, by class name or balanced: what each class counts, and the loss that counts so.

They become an argument of the loss itself (`weight`, or `pos_weight` where each label is judged by itself), so that
epochs, report, checkpoint and `zoo evaluate` measure with one loss, the one that the checkpoint names.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import mul
from typing import Literal

from zoo.data.open_data import OpenData
from zoo.errors import InputError, Problem, any_of
from zoo.recipe.catalogue import component_of, find
from zoo.recipe.options import Named
from zoo.training.labels import hint_for
from zoo.training.losses import BY_TASK, DIVIDE_BY_WEIGHT, INDEX_LOSSES, WEIGHTS
from zoo.training.optimizers import named

ClassWeights = Literal["balanced"] | Mapping[str, float]
WEIGHTED = {  # losses of zoo's and torch's that class weights go into, by task
    "classification": ("cross_entropy", "focal", "NLLLoss", "MultiMarginLoss"),
    "multilabel": ("bce", "focal", "asymmetric"),
}


@dataclass(frozen=True)
class WeightedLoss:
    """`loss` is the one asked for with its class weights, which are `weights`, one a class; () without any.

    `mean` is their mean over the samples of an epoch: what the loss of a batch is divided by, in place of the mean over
    that batch, so that neither accumulation nor several processes change what a sample counts. None where the loss
    divides by the number of samples.
    """

    loss: Named
    weights: tuple[float, ...] = ()
    mean: float | None = None


def weighted(loss: Named, asked: ClassWeights | None, data: OpenData, *, evenly: bool = False) -> WeightedLoss:
    """The loss with the class weights `asked` for, by the training part of `data`.

    `balanced` is n / (k * n_c), as in scikit-learn's compute_class_weight: n samples, n_c of them of the class, k
    classes that there are samples of. Where each label is judged by itself it is absent over present ones,
    (n - n_c) / n_c, the `pos_weight` of BCEWithLogitsLoss. A class that is not named counts 1, as does one without
    samples. `evenly` says that classes are drawn equally often.
    Raises InputError for a loss that takes none or has some already, for classes that are not there, and where all
    that has samples counts 0.
    """
    if asked is None:
        return WeightedLoss(loss)
    name, arguments = named(loss)
    name = BY_TASK[data.task] if name == "auto" else name
    key = _argument(name, data.task)
    if any(arguments.get(each) is not None for each in WEIGHTS):
        message = f"class_weights goes into the loss {name}, which has weights of its own"
        raise InputError(message, suggestion="remove one of them")
    counts, classes = data.class_counts, class_names(data)
    if isinstance(asked, str):
        weights = _balanced(counts, len(data.parts["train"]), by_label=key == "pos_weight")
    else:
        _check_names(asked, classes)
        weights = tuple(float(asked.get(each, 1.0)) for each in classes)
    if not any(weight and count for weight, count in zip(weights, counts, strict=True)):
        raise InputError("class_weights: every class that has samples counts 0", suggestion="give one of them more")
    mean = None
    if key == "weight" and find("losses", name) in DIVIDE_BY_WEIGHT:
        shares = [float(count > 0) for count in counts] if evenly else counts
        mean = sum(map(mul, weights, shares)) / sum(shares)
    return WeightedLoss({name: {**arguments, key: list(weights)}}, weights, mean)


def class_names(data: OpenData) -> tuple[str, ...]:
    """The data's class names; their numbers, where they have none."""
    return data.classes or tuple(map(str, range(data.outputs)))


def _check_names(asked: Mapping[str, float], classes: Sequence[str]) -> None:
    if strange := [each for each in asked if each not in classes]:
        raise InputError(
            Problem(f"class_weights: there is no class {each!r}", None, hint_for(each, classes)) for each in strange
        )


def _argument(name: str, task: str) -> str:
    """The argument of a loss that class weights go into. Raises InputError where it has none."""
    if task == "regression":
        raise InputError("class_weights: a regression has no classes", suggestion="remove class_weights")
    factory, component = find("losses", name), component_of("losses", name)
    assert factory is not None
    takes = inspect.signature(factory).parameters
    of_indices = component is not None or factory in INDEX_LOSSES
    if task == "classification" and "weight" in takes and of_indices:
        return "weight"
    if "pos_weight" in takes:
        return "pos_weight"
    hint = f"write loss: {any_of(WEIGHTED[task])}"
    raise InputError(f"class_weights does nothing with the loss {name} of a {task} task", suggestion=hint)


def _balanced(counts: Sequence[float], samples: int, *, by_label: bool) -> tuple[float, ...]:
    classes = sum(count > 0 for count in counts)
    if by_label:
        return tuple((samples - count) / count if 0 < count < samples else 1.0 for count in counts)
    return tuple(samples / (classes * count) if count else 1.0 for count in counts)


def as_record(found: WeightedLoss, data: OpenData) -> dict[str, float] | None:
    """The report's record of class weights: each by the name of its class."""
    return dict(zip(class_names(data), found.weights, strict=True)) if found.weights else None
