"""The freezing policies: which parameters, buffers and modules to freeze.

A policy is `(model, *, …) -> names` and changes nothing; `zoo.model.freezing.freeze` does. What each one means:

    none            nothing
    all             everything
    all_but_head    everything outside the classifier; dropout right in front of it belongs to it and stays on
    below           everything registered before a module, dropout in between included
    first_stages    the stem and the first stages
    pattern         every parameter, buffer and module whose name one of the regular expressions finds
    batchnorm       batch-norm layers, weights and statistics; the rest trains
    bias_only       all but biases: only biases train (BitFit), batch-norm statistics are frozen
    norm_only       all but normalization layers: only those train, and their statistics move

A selector that matches nothing is an InputError with the nearest names.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import nn

from zoo.errors import InputError, Problem, did_you_mean, listed
from zoo.expressions import Expression
from zoo.model.heads import find_heads
from zoo.model.paths import canonical, get_module, has_parameters, join
from zoo.model.stages import find_stages


def none(model: nn.Module) -> list[str]:
    """Freeze nothing: everything trains that the architecture lets train."""
    return []


def all(model: nn.Module) -> list[str]:
    """Freeze everything; what a later surgery adds trains."""
    return [""]


def all_but_head(model: nn.Module, *, head: str | None = None) -> list[str]:
    """Freeze everything outside the classifier: a linear probe, or fine-tuning's first step.

    `head` is the module that trains; without it, what zoo finds as the classifier (all of them, where a model has
    several). A parameter that the head shares with the rest trains.
    """
    paths = find_heads(model) if head is None else [canonical(model, head)]
    names = _all_except(model, _tensors_in(model, paths))
    if not names:
        raise InputError(f"all_but_head: nothing lies outside the head {paths[0]!r}", suggestion="use the policy none")
    return names


def below(model: nn.Module, *, module: str, inclusive: bool = False) -> list[str]:
    """Freeze all that is registered before `module` (and `module` itself, if `inclusive`); the rest trains.

    The own parameters of the modules around it (a transformer's `cls_token`, `pos_embed`) come before it and freeze.
    """
    path = canonical(model, module)
    names = [path] if inclusive else []
    place, around = "", model
    for child in path.split(".") if path else []:
        names += _own_tensors(place, around)
        for name, _ in around.named_children():
            if name == child:
                break
            names.append(join(place, name))
        place, around = join(place, child), around.get_submodule(child)
    if not _any_tensor(model, names):
        first = next((name for name, p in model.named_modules() if name and has_parameters(p)), "")
        raise InputError(f"below: nothing with parameters lies below {module!r}; the first module is {first!r}")
    return names


def first_stages(model: nn.Module, *, count: int) -> list[str]:
    """Freeze the stem and the first `count` stages (0: the stem alone).

    Stages are the links of the model's main chain: `layer1` … `layer4`, or the children of `blocks`, `stages`,
    `features`.
    """
    stages = find_stages(model)
    if not 0 <= count <= len(stages):
        raise InputError(
            f"first_stages: count is {count}, but the model has {len(stages)} stages: {listed(stages, 12)}",
            suggestion=f"write a number from 0 to {len(stages)}",
        )
    if count == len(stages):
        return below(model, module=stages[-1], inclusive=True)
    return below(model, module=stages[count])


def pattern(model: nn.Module, *, patterns: str | list[str]) -> list[str]:
    """Freeze each parameter, buffer and module in whose name one of the regular expressions is found.

    `^layer1\\.` finds a stage, `norm` finds every layer with norm in its path. A module that is found is frozen with
    all that is inside it. Each expression has to find at least one parameter or buffer.
    """
    tensors = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    tensors += [name for name, _ in model.named_buffers(remove_duplicate=False)]
    modules = [path for path, _ in model.named_modules(remove_duplicate=False) if path]
    chosen: list[str] = []
    problems: list[Problem] = []
    for expression in [patterns] if isinstance(patterns, str) else patterns:
        try:
            search: Callable[[str], object] = Expression(expression).search
        except ValueError as error:
            problems.append(Problem(f"pattern: {error}"))
            continue
        found = [name for name in (*tensors, *modules) if search(name)]
        if not _any_tensor(model, found):
            hint = did_you_mean(re.sub(r"[\\^$]", "", expression), [*modules, *tensors])
            problems.append(Problem(f"pattern: {expression!r} finds no parameter or buffer", suggestion=hint))
        chosen += found
    if problems or not chosen:
        raise InputError(problems or "pattern: the list of patterns is empty")
    return list(dict.fromkeys(chosen))


def batchnorm(model: nn.Module) -> list[str]:
    """Freeze every batch-norm layer of any dimension: weight, bias, running statistics and output."""
    names = [path for path, module in model.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not names:
        kinds = sorted({type(module).__name__ for module in model.modules() if _is_norm(module)})
        hint = f"its normalization layers are {listed(kinds)}: use the policy pattern" if kinds else None
        raise InputError("batchnorm: the model has no batch-norm layer", suggestion=hint)
    return names


def bias_only(model: nn.Module, *, train_head: bool = False) -> list[str]:
    """Freeze all but biases. Batch-norm statistics are frozen, dropout stays on. `train_head`: all of the classifier
    trains (Ben Zaken et al., BitFit, 2022, trains both)."""
    biases = [p for name, p in model.named_parameters() if role(name) == "bias"]
    if not biases:
        raise InputError("bias_only: the model has no bias")
    heads = find_heads(model) if train_head else []
    return _all_except(model, {id(bias) for bias in biases} | _tensors_in(model, heads))


def norm_only(model: nn.Module, *, train_head: bool = False) -> list[str]:
    """Freeze all but normalization layers (batch, layer, group, instance, RMS). `train_head`: the classifier trains
    too."""
    norms = [module for module in model.modules() if _is_norm(module)]
    kept = {id(tensor) for module in norms for tensor in (*module.parameters(), *module.buffers())}
    if not any(map(has_parameters, norms)):
        raise InputError("norm_only: the model has no normalization layer with parameters")
    heads = find_heads(model) if train_head else []
    return _all_except(model, kept | _tensors_in(model, heads))


def role(parameter: str) -> str:
    """`weight`, `bias` or `""`: what a parameter is by its name, `in_proj_bias` and `weight_ih_l0` included."""
    leaf = parameter.rpartition(".")[2]
    for kind in ("weight", "bias"):
        if leaf == kind or leaf.startswith(f"{kind}_") or leaf.endswith(f"_{kind}"):
            return kind
    return ""


def _all_except(model: nn.Module, kept: set[int]) -> list[str]:
    """Names of all parameters and buffers but those in `kept`, compared by identity: shared ones are kept."""
    tensors = (*model.named_parameters(), *model.named_buffers())
    return [name for name, tensor in tensors if id(tensor) not in kept]


def _tensors_in(model: nn.Module, paths: list[str]) -> set[int]:
    modules = [get_module(model, path) for path in paths]
    return {id(tensor) for module in modules for tensor in (*module.parameters(), *module.buffers())}


def _own_tensors(path: str, module: nn.Module) -> list[str]:
    parameters, buffers = module.named_parameters(recurse=False), module.named_buffers(recurse=False)
    return [join(path, name) for name, _ in (*parameters, *buffers)]


def _any_tensor(model: nn.Module, names: list[str]) -> bool:
    modules = dict(model.named_modules(remove_duplicate=False))
    return any(
        name not in modules or has_parameters(modules[name]) or next(modules[name].buffers(), None) is not None
        for name in names
    )


def _is_norm(module: nn.Module) -> bool:
    """Normalization layers: torch's own with statistics, and any class called …Norm… with parameters of its own."""
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return True
    own = "norm" in type(module).__name__.lower() and has_parameters(module, recurse=False)
    return own and not any(map(has_parameters, module.children()))
