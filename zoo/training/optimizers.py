"""Optimizers by name: torch's, then timm's, in the fused or foreach form where there is one."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from zoo.errors import InputError
from zoo.recipe.named import find
from zoo.recipe.steps import Named, Train
from zoo.training.groups import parameter_groups

FUSED_ON = ("cpu", "cuda", "mps", "xpu")


def named(value: Named) -> tuple[str, dict[str, Any]]:
    """A recipe's bare name or mapping of one name to its arguments."""
    return (value, {}) if isinstance(value, str) else next((name, dict(given)) for name, given in value.items())


def make_optimizer(model: nn.Module, options: Train) -> Optimizer:
    """The optimizer over the model's trainable parameters; the model has to be on its device already.

    `options.weight_decay` (the optimizer's own default where it is not given) spares biases and norms; one among the
    optimizer's own arguments goes for everything, as in torch.
    Raises InputError for an unknown name, arguments it does not take, and when nothing trains.
    """
    name, arguments = named(options.optimizer)
    factory = find("optimizers", name)
    assert factory is not None
    known = inspect.signature(factory).parameters
    arguments = _timm_defaults(factory) | arguments
    stated = arguments.pop("weight_decay", None)
    chosen = next((value for value in (stated, options.weight_decay) if value is not None), None)
    default = known["weight_decay"].default if "weight_decay" in known else 0.0
    groups = parameter_groups(
        model,
        lr=arguments.pop("lr", options.lr),
        weight_decay=default if chosen is None else chosen,
        decay_all=stated is not None,
        layer_decay=options.layer_decay,
        lr_scale=options.lr_scale,
    )
    if "weight_decay" not in known:
        groups = [{key: value for key, value in group.items() if key != "weight_decay"} for group in groups]
    try:
        return _build(factory, groups, options.lr, arguments, known)
    except (TypeError, ValueError) as error:
        raise InputError(f"optimizer {name}: {error}", suggestion=f"it takes {', '.join(list(known)[1:])}") from error


def _timm_defaults(factory: Any) -> dict[str, Any]:
    """What timm's own factory gives an optimizer of its list beside lr and weight decay."""
    bound = isinstance(factory, functools.partial)
    takes_momentum = "momentum" in inspect.signature(factory).parameters
    return {"momentum": 0.9} if takes_momentum and (bound or factory.__module__.startswith("timm.")) else {}


def _build(factory: Any, groups: list[dict[str, Any]], lr: float, arguments: dict[str, Any], known: Any) -> Optimizer:
    """Fused where the kernel exists for these parameters, else foreach, else plain."""
    if "fused" in known and "fused" not in arguments and "foreach" not in arguments and _can_fuse(groups):
        try:
            fused: Optimizer = factory(groups, lr=lr, fused=True, **arguments)
            return fused
        except (RuntimeError, ValueError):  # torch says so where this combination has no fused kernel
            pass
    plain: Optimizer = factory(groups, lr=lr, **arguments)
    return plain


def _can_fuse(groups: list[dict[str, Any]]) -> bool:
    parameters = [parameter for group in groups for parameter in group["params"]]
    return all(p.device.type in FUSED_ON and torch.is_floating_point(p) for p in parameters)
