"""Checks that optimizer and scheduler fit the model, which may have changed since they were made."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer

from zoo.errors import listed
from zoo.lint.trap import Trap
from zoo.model.freezing import trainable_parameters


def check_optimizer(model: nn.Module, optimizer: Optimizer, scheduler: Any = None) -> list[Trap]:
    """Parameters that the optimizer contains for nothing or lacks, and a scheduler that steps other groups than its."""
    return [*_parameters(model, optimizer), *(_scheduler(optimizer, scheduler) if scheduler is not None else [])]


def _parameters(model: nn.Module, optimizer: Optimizer) -> list[Trap]:
    contained = {id(parameter): parameter for group in optimizer.param_groups for parameter in group["params"]}
    own = {id(parameter): name for name, parameter in model.named_parameters()}
    trains = {id(parameter) for parameter in trainable_parameters(model).values()}
    frozen = tuple(own[key] for key in contained if key in own and key not in trains)
    absent = tuple(own[key] for key in own if key in trains and key not in contained)
    foreign = [parameter for key, parameter in contained.items() if key not in own]
    traps = []
    if frozen:
        message = f"the optimizer contains frozen parameters: {listed(frozen)}"
        traps.append(Trap("optimizer", frozen, message, "build it over trainable_parameters(model)"))
    if absent:
        message = f"trainable parameters are not in the optimizer, so they are never updated: {listed(absent)}"
        traps.append(Trap("optimizer", absent, message, "build the optimizer after the last freeze or surgery"))
    if foreign:
        shapes = tuple(str(list(parameter.shape)) for parameter in foreign)
        message = f"the optimizer contains parameters that the model no longer has, of shape {listed(shapes)}"
        traps.append(Trap("optimizer", shapes, message, "build the optimizer after the last surgery"))
    return traps


def _scheduler(optimizer: Optimizer, scheduler: Any) -> list[Trap]:
    traps: list[Trap] = []
    for inner in getattr(scheduler, "_schedulers", [scheduler]):  # SequentialLR and ChainedScheduler contain several
        name = type(inner).__name__
        if getattr(inner, "optimizer", optimizer) is not optimizer:
            message = f"{name} steps another optimizer than the one that trains"
            traps.append(Trap("scheduler", (name,), message, "build the scheduler over the present optimizer"))
            continue
        known = len(getattr(inner, "base_lrs", None) or getattr(inner, "min_lrs", optimizer.param_groups))
        groups = len(optimizer.param_groups)
        if known != groups:
            message = f"{name} was built for {known} parameter groups and the optimizer has {groups}"
            numbers = tuple(str(number) for number in range(min(known, groups), max(known, groups)))
            mend = "build the scheduler after the last group was added or removed"
            traps.append(Trap("scheduler", numbers, message, mend))
    empty = tuple(
        str(number)
        for number, group in enumerate(optimizer.param_groups)
        if not any(parameter.requires_grad for parameter in group["params"])
    )
    if empty and len(empty) < len(optimizer.param_groups):
        message = f"the scheduler steps parameter groups in which nothing trains: {listed(empty)}"
        traps.append(Trap("scheduler", empty, message, "build optimizer and scheduler after the last freeze"))
    return traps
