"""Parameter groups: what trains, at which real learning rate, with which weight decay."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

from zoo.errors import InputError, Problem
from zoo.model.freezing import trainable_parameters
from zoo.training.layers import layer_depths


def parameter_groups(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    decay_all: bool = False,
    layer_decay: float | None = None,
    lr_scale: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Groups for a torch optimizer, each with its own `lr` and `weight_decay`; frozen parameters are in none.

    The learning rate is the group's real one, so that every scheduler keeps the ratios: `lr` times
    `layer_decay ** (layers above)` times the first factor of `lr_scale` whose regular expression finds the name.
    Biases, vectors (norms) and what the model's `no_weight_decay()` names are not decayed unless `decay_all`.
    Raises InputError when nothing trains, and for every expression of `lr_scale` that finds no trainable parameter.
    """
    parameters = trainable_parameters(model)
    if not parameters:
        if next(model.parameters(), None) is None:
            raise InputError("nothing to train: the model has no parameters", suggestion="remove the train step")
        hint = "freeze less: put freeze: all_but_head in front of train, or freeze: none"
        raise InputError("nothing to train: every parameter is frozen", suggestion=hint)
    scales = dict.fromkeys(parameters, 1.0)
    if layer_decay is not None:
        depths = layer_depths(model)
        top = max(depths.values())
        scales = {name: layer_decay ** (top - depths[name]) for name in parameters}
    for name, factor in _named_factors(list(parameters), lr_scale or {}).items():
        scales[name] *= factor
    spares: Callable[[], Iterable[str]] = getattr(model, "no_weight_decay", tuple)  # timm's models name some
    spared = set(spares())
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in parameters.items():
        free = not decay_all and (parameter.ndim <= 1 or name.rpartition(".")[2] == "bias" or name in spared)
        key = (scales[name] * lr, 0.0 if free else weight_decay)
        group = groups.setdefault(key, {"params": [], "lr": key[0], "weight_decay": key[1]})
        group["params"].append(parameter)
    return list(groups.values())


def _named_factors(names: list[str], lr_scale: Mapping[str, float]) -> dict[str, float]:
    problems: list[Problem] = []
    factors: dict[str, float] = {}
    for pattern, factor in lr_scale.items():
        try:
            found = [name for name in names if re.search(pattern, name)]
        except re.error as error:
            problems.append(Problem(f"lr_scale: {pattern!r} is no regular expression: {error}"))
            continue
        if not found:
            hint = f"trainable are for instance {', '.join(names[:3])}"
            problems.append(Problem(f"lr_scale: {pattern!r} finds no trainable parameter", suggestion=hint))
        for name in found:
            factors.setdefault(name, factor)
    if problems:
        raise InputError(problems)
    return factors
