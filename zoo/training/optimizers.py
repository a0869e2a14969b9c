"""Optimizers by name (torch's, then timm's) and their parameter groups: learning rates, weight decay, layer depth."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer

from zoo.errors import InputError, Problem, WorkError
from zoo.expressions import Expression
from zoo.model.depths import layer_depths
from zoo.model.freezing import trainable_parameters
from zoo.model.paths import join
from zoo.recipe.catalogue import component_of, find
from zoo.recipe.options import Named

if TYPE_CHECKING:
    from zoo.steps.train import Train

FUSED_ON = ("cpu", "cuda", "mps", "xpu")


def named(value: Named) -> tuple[str, dict[str, Any]]:
    """Name and arguments of what a recipe gives as a bare name, or as a mapping of one name to its arguments."""
    return (value, {}) if isinstance(value, str) else next((name, dict(given)) for name, given in value.items())


def make_optimizer(model: nn.Module, options: Train, phases: Mapping[str, int] | None = None) -> Optimizer:
    """The optimizer over the model's trainable parameters; the model has to be on its device already.

    Weight decay (the optimizer's own without `options.weight_decay` and an argument of that name) goes by
    `options.weight_decay_on`. `phases` are the names of what ever trains, with the phase in which it begins to, where
    not all of it trains yet: no group is of two phases.
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
        lr=arguments.pop("lr", options.rate),
        weight_decay=default if chosen is None else chosen,
        decay_all=options.weight_decay_on == "all",
        layer_decay=options.layer_decay,
        lr_scale=options.lr_scale,
        phases=phases,
    )
    if "weight_decay" not in known:
        groups = [{key: value for key, value in group.items() if key != "weight_decay"} for group in groups]
    own = component_of("optimizers", name) is not None
    try:
        # torch's fused SGD takes a group in which all have momentum, or none
        mixed = options.optimizer_state == "carried" and factory is torch.optim.SGD
        made = _build(factory, groups, options.rate, {"fused": False} | arguments if mixed else arguments, known)
        if not isinstance(made, Optimizer):
            raise TypeError(f"it gives {type(made).__name__}, which is no torch.optim.Optimizer")
        return made
    except Exception as error:
        if not own and not isinstance(error, TypeError | ValueError):
            raise
        raise InputError(f"optimizer {name}: {error}", suggestion=f"it takes {', '.join(list(known)[1:])}") from error


def _timm_defaults(factory: Any) -> dict[str, Any]:
    """The arguments that timm's own factory gives its optimizers beside lr and weight decay."""
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


def load_state(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """`optimizer.load_state_dict(state)`, and every tensor of it in the memory layout of its parameter.

    Raises WorkError for the state of an optimizer with other groups, as another version of zoo may have made them.
    """
    try:
        optimizer.load_state_dict(state)
    except (ValueError, KeyError) as error:
        message = f"the resume state has other parameter groups than this recipe's optimizer: {error}"
        raise WorkError(message, suggestion="begin anew, which replaces it: --overwrite") from error
    lay_out(optimizer)


def lay_out(optimizer: Optimizer) -> None:
    """Give every tensor of the optimizer's state the memory layout of its parameter.

    torch's fused steps go through parameter and moments by memory, not by index: with moments that come back from a
    file as contiguous they would give a channels-last weight the momentum of its neighbours.
    """
    for parameter, known in optimizer.state.items():
        for key, value in known.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                known[key] = torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)


def carry_over(optimizer: Optimizer, moments: Mapping[torch.Tensor, dict[str, Any]]) -> int:
    """Give the optimizer the state that an earlier one of its class had of the same parameters (`optimizer.state`).

    How many tensors have that state now; a new head and what was frozen before begin without.
    """
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    carried = {parameter: dict(moments[parameter]) for parameter in trained if parameter in moments}
    optimizer.state.update(carried)
    lay_out(optimizer)
    return len(carried)


def _can_fuse(groups: list[dict[str, Any]]) -> bool:
    parameters = [parameter for group in groups for parameter in group["params"]]
    return all(p.device.type in FUSED_ON and torch.is_floating_point(p) for p in parameters)


def parameter_groups(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    decay_all: bool = False,
    layer_decay: float | None = None,
    lr_scale: Mapping[str, float] | None = None,
    phases: Mapping[str, int] | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups for a torch optimizer, each with its `lr` and `weight_decay`; frozen parameters are in none.

    The learning rate is the group's real one, so that every scheduler keeps the ratios: `lr` times
    `layer_decay ** (layers above)` times the first factor of `lr_scale` whose regular expression finds the name.
    Biases, vectors (norms) and what a `no_weight_decay()` of the model or inside it names (timm's models have one) are
    not decayed unless `decay_all`. `phases` are as for `make_optimizer`.
    Raises InputError when nothing trains, and for every expression of `lr_scale` that finds no trainable parameter.
    """
    parameters = trainable_parameters(model)
    if phases is not None:
        parameters = {name: model.get_parameter(name) for name in phases}
    if not parameters:
        raise _nothing_to_train(model)
    scales = _scales(model, list(parameters), layer_decay, lr_scale or {})
    spared = _without_decay(model)
    groups: dict[tuple[int, float, float], dict[str, Any]] = {}
    for name, parameter in parameters.items():
        vector = parameter.ndim <= 1 or name.rpartition(".")[2] == "bias"
        decayed = decay_all or not (vector or name in spared)
        key = (phases[name] if phases else 0, scales[name] * lr, weight_decay if decayed else 0.0)
        group = groups.setdefault(key, {"params": [], "lr": key[1], "weight_decay": key[2]})
        group["params"].append(parameter)
    return list(groups.values())


def _without_decay(model: nn.Module) -> set[str]:
    """The parameters that a `no_weight_decay()` of the model, or of a model inside it, names."""
    found: set[str] = set()
    for path, module in model.named_modules():
        names: Callable[[], Iterable[str]] = getattr(module, "no_weight_decay", tuple)
        found.update(join(path, name) for name in names())
    return found


def _nothing_to_train(model: nn.Module) -> InputError:
    if next(model.parameters(), None) is None:
        return InputError("nothing to train: the model has no parameters", suggestion="remove the train step")
    hint = "freeze less: put freeze: all_but_head in front of train, or freeze: none"
    return InputError("nothing to train: every parameter is frozen", suggestion=hint)


def _scales(
    model: nn.Module, names: list[str], layer_decay: float | None, lr_scale: Mapping[str, float]
) -> dict[str, float]:
    """The factor of the learning rate by parameter name."""
    scales = dict.fromkeys(names, 1.0)
    if layer_decay is not None:
        depths = layer_depths(model)
        top = max(depths.values())
        scales = {name: layer_decay ** (top - depths[name]) for name in names}
    for name, factor in _named_factors(names, lr_scale).items():
        scales[name] *= factor
    return scales


def _named_factors(names: list[str], lr_scale: Mapping[str, float]) -> dict[str, float]:
    problems: list[Problem] = []
    factors: dict[str, float] = {}
    for pattern, factor in lr_scale.items():
        try:
            expression = Expression(pattern)
        except ValueError as error:
            problems.append(Problem(f"lr_scale: {error}"))
            continue
        found = [name for name in names if expression.search(name)]
        if not found:
            hint = f"trainable are for instance {', '.join(names[:3])}"
            problems.append(Problem(f"lr_scale: {pattern!r} finds no trainable parameter", suggestion=hint))
        for name in found:
            factors.setdefault(name, factor)
    if problems:
        raise InputError(problems)
    return factors


RateRow = dict[str, Any]
RATE_COLUMNS = ("group", "from epoch", "lr", "weight decay", "parameters", "tensors")


def rate_rows(
    model: nn.Module, groups: Iterable[Mapping[str, Any]], begins: Mapping[str, int] = MappingProxyType({})
) -> list[RateRow]:
    """A row for each parameter group of an optimizer as it was made: `{"tensors", "parameters", "lr", "weight_decay",
    "first", "last", "from_epoch"}`.

    `lr` is the group's learning rate at its highest, `weight_decay` None where the optimizer has none, `first` and
    `last` are names, `begins` the epoch, counted from 1, in which a parameter begins to train by name, where not all do
    in the first.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rows = []
    for group in groups:
        inside = [names.get(id(parameter), "") for parameter in group["params"]]
        sizes = {"tensors": len(inside), "parameters": sum(parameter.numel() for parameter in group["params"])}
        rates = {"lr": group["lr"], "weight_decay": group.get("weight_decay")}
        ends = {"first": inside[0], "last": inside[-1]} if inside else {"first": "", "last": ""}
        rows.append({**sizes, **rates, **ends, "from_epoch": begins.get(ends["first"], 1)})
    return rows


def rate_lines(rows: Sequence[RateRow]) -> list[str]:
    """The rows as text, a line each under a header; which epoch a group trains from only where they differ."""
    staggered = len({row["from_epoch"] for row in rows}) > 1
    table = [[name for name in RATE_COLUMNS if staggered or name != "from epoch"]]
    for place, row in enumerate(rows, 1):
        decay = "none" if row["weight_decay"] is None else f"{row['weight_decay']:g}"
        cells = [str(place), str(row["from_epoch"]), f"{row['lr']:.3g}", decay, f"{row['parameters']:,}"]
        cells.append(f"{row['tensors']}: {row['first']}" + (f" … {row['last']}" if row["tensors"] > 1 else ""))
        table.append(cells if staggered else [cells[0], *cells[2:]])
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]) - 1)]
    return ["  ".join([*map(str.rjust, line[:-1], widths), line[-1]]) for line in table]


def phase_lines(phases: Sequence[RateRow]) -> list[str]:
    """The phases of gradual unfreezing as text, a line each."""
    lines = []
    for phase in phases:
        when = "never" if phase["epoch"] is None else f"from epoch {phase['epoch']}"
        lines.append(f"{when}: {phase['group']}, {phase['parameters']:,} parameters in {phase['tensors']} tensors")
    return lines
