"""Let two places in a model share one module or one parameter, and part them again.

What is shared is one object: it gets one gradient and one update, freezing it freezes it everywhere, and a checkpoint
holds it once.
"""

from __future__ import annotations

import copy

from torch import nn

from zoo.errors import InputError, did_you_mean
from zoo.model.paths import canonical, get_module, set_module, split


def tie(model: nn.Module, *, path: str, to: str) -> nn.Module:
    """Let `path` be the very module, or parameter, that stands at `to`. Shapes have to agree."""
    module, source = _parameter(model, path), _parameter(model, to)
    if (module is None) != (source is None):
        raise InputError(f"one of {path!r} and {to!r} is a parameter, the other is not: both have to be the same")
    if source is not None and module is not None:
        _tie_parameters(model, path, to, source)
    else:
        _tie_modules(model, canonical(model, path), canonical(model, to))
    return model


def untie(model: nn.Module, *, path: str) -> nn.Module:
    """Give `path` a copy of its own of the module, or parameter, that it shares."""
    parameter = _parameter(model, path)
    if parameter is not None:
        parent, name = _owner(model, path)
        parent._parameters[name] = copy.deepcopy(parameter)
    else:
        set_module(model, path, copy.deepcopy(get_module(model, path)))
    return model


def _tie_parameters(model: nn.Module, path: str, to: str, source: nn.Parameter) -> None:
    parent, name = _owner(model, path)
    old = parent._parameters[name]
    if old is not None and old.shape != source.shape:
        raise InputError(f"{path!r} is {list(old.shape)} and {to!r} is {list(source.shape)}: they cannot be one")
    parent._parameters[name] = source


def _tie_modules(model: nn.Module, path: str, to: str) -> None:
    split(model, path)  # the model itself cannot be put elsewhere
    if f"{path}.".startswith(f"{to}.") or f"{to}.".startswith(f"{path}.") or not to:
        raise InputError(f"{path!r} and {to!r} lie inside each other or are the same")
    old, source = get_module(model, path), get_module(model, to)
    shapes = [{key: list(value.shape) for key, value in module.state_dict().items()} for module in (old, source)]
    if shapes[0] != shapes[1]:
        raise InputError(f"{path!r} holds {shapes[0]} and {to!r} holds {shapes[1]}: they cannot be one")
    set_module(model, path, source)


def _parameter(model: nn.Module, path: str) -> nn.Parameter | None:
    """The parameter at `path`; None when a module stands there. Raises InputError when neither does."""
    named = dict(model.named_parameters(remove_duplicate=False))
    if path in named:
        return named[path]
    try:
        get_module(model, path)
    except InputError as error:
        if hint := did_you_mean(path, named):
            raise InputError(f"neither a module nor a parameter at {path!r}", suggestion=hint) from error
        raise
    return None


def _owner(model: nn.Module, path: str) -> tuple[nn.Module, str]:
    parent, _, name = path.rpartition(".")
    return get_module(model, parent), name
