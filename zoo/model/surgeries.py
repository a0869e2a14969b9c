"""The surgeries on a built model that a recipe names: each operates in place and returns the model.

A path that leads nowhere is an InputError with the nearest ones. A new module takes the model's device, dtype and
mode, its parameters trainable. `module` may leave out the widths that can be inferred (zoo.model.module_spec).
Names in a Sequential are never renumbered: the state-dict keys of neighbours stay what they were.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from zoo.contracts import Context
from zoo.errors import InputError, did_you_mean
from zoo.model.heads import (
    append_as_head,
    classifies,
    heads_if_any,
    installed_heads,
    is_installed_head,
    replace_as_head,
)
from zoo.model.module_spec import ModuleSpec, Place, module_parameter
from zoo.model.paths import canonical, get_module, has_parameters, join, set_module, split
from zoo.model.shapes import ModuleShapes
from zoo.model.swap_head import swap_head
from zoo.model.wiring import runs_in_order, unwire, wires
from zoo.model.wiring import wire as wire_child
from zoo.remap.resample import shared_out

__all__ = [
    "adapt_input",
    "add_module",
    "append",
    "prepend",
    "remove_module",
    "replace_module",
    "swap_head",
    "tie",
    "untie",
    "wrap",
]


def adapt_input(model: nn.Module, *, channels: int, path: str = "", context: Context | None = None) -> nn.Module:
    """Let the first convolution (or the one at `path`) take images with so many channels, its kernels shared out.

    Their sum over the input channels stays, so that a grey image gives what it gave as RGB: one channel has the sum of
    the old ones, further channels repeat them, each divided by its copies (`adapt_input` of a remap, timm's for
    multiples of three).
    """
    if path:
        path = canonical(model, path)
        layer = get_module(model, path)
    else:
        convolutions = (item for item in model.named_modules() if isinstance(item[1], nn.Conv2d))
        path, layer = next(convolutions, ("", model))
    if not isinstance(layer, nn.Conv2d) or layer.groups != 1:
        said = f"{path!r} is a {type(layer).__name__}" if path else "the network has no convolution"
        raise InputError(f"{said}: no convolution of all channels to adapt", suggestion="name it: path")
    _note(context, path=path)
    if layer.in_channels == channels:
        return model
    new = copy.copy(layer)
    new._parameters = dict(layer._parameters)
    new.in_channels = channels
    new.weight = nn.Parameter(shared_out(layer.weight.detach(), channels))
    set_module(model, path, new)
    return model


def add_module(
    model: nn.Module,
    *,
    name: str,
    module: ModuleSpec,
    path: str = "",
    wire: bool = True,
    context: Context | None = None,
) -> nn.Module:
    """Add `module` as the child `name` of the module at `path` (the model itself by default).

    A Sequential runs it by itself, last. Elsewhere the parent's forward does not know it: with `wire` the parent's
    output goes through it, without it is dead weight until something calls it.
    """
    path = canonical(model, path)
    parent = get_module(model, path)
    _check_free(parent, path, name)
    if wire and isinstance(parent, nn.ModuleList | nn.ModuleDict):
        raise InputError(
            f"{path!r} is a {type(parent).__name__}, which never runs itself, so nothing can run after it",
            suggestion="write wire: false if the code around it calls each of its modules",
        )
    shapes = ModuleShapes(model, context)
    new = _build(model, module, Place(input_shape=lambda: shapes.output_of(path)))
    if wire and has_parameters(new):
        append_as_head(model, heads_if_any(model, shapes=shapes), path, new)
    parent.add_module(name, new)
    if wire and not runs_in_order(parent):
        wire_child(parent, name)
    _note(context, path=path)
    return model


def replace_module(model: nn.Module, *, path: str, module: ModuleSpec, context: Context | None = None) -> nn.Module:
    """Put `module` in the place of the one at `path`; widths that are left out follow the one replaced.

    What replaces the head, or what contains it, is the head from then on, whatever it looks like.
    """
    path = canonical(model, path)
    split(model, path)
    shapes = ModuleShapes(model, context)
    new = _build(model, module, shapes.place_of(path))
    inside = get_module(model, path).modules()
    if any(classifies(old) or is_installed_head(old) for old in inside) and (
        installed_heads(model) or not classifies(new)
    ):
        replace_as_head(model, heads_if_any(model, shapes=shapes), path, new)
    set_module(model, path, new)
    _note(context, path=path)
    return model


def remove_module(model: nn.Module, *, path: str) -> nn.Module:
    """Take the module at `path` out.

    A wired module goes with its wire. In a Sequential, and at the end of a ModuleList, it is deleted, and its
    neighbours keep their names; elsewhere code calls it by name, so an Identity takes its place.
    """
    parent, name = split(model, path)
    at_end = isinstance(parent, nn.ModuleList) and name == list(parent._modules)[-1]
    if runs_in_order(parent) or at_end or name in wires(parent):
        unwire(parent, name)
        delattr(parent, name)
    else:
        set_module(model, path, nn.Identity().train(model.training))
    return model


def append(
    model: nn.Module, *, module: ModuleSpec, path: str = "", name: str | None = None, context: Context | None = None
) -> nn.Module:
    """Append `module` to the Sequential at `path`; it is called `name`, or the next free number."""
    path, parent = _sequential(model, path)
    name = name or str(max([int(key) for key in parent._modules if key.isdecimal()], default=-1) + 1)
    _check_free(parent, path, name)
    shapes = ModuleShapes(model, context)
    new = _build(model, module, Place(input_shape=lambda: shapes.output_of(path)))
    if has_parameters(new):
        append_as_head(model, heads_if_any(model, shapes=shapes), path, new)
    parent.add_module(name, new)
    _note(context, path=path, name=name)
    return model


def prepend(
    model: nn.Module, *, module: ModuleSpec, path: str = "", name: str = "first", context: Context | None = None
) -> nn.Module:
    """Run `module` before the first one of the Sequential at `path`; it is called `name`."""
    path, parent = _sequential(model, path)
    _check_free(parent, path, name)
    shapes = ModuleShapes(model, context)
    new = _build(model, module, Place(input_shape=lambda: shapes.input_of(path)))
    others = dict(parent._modules)
    parent._modules.clear()
    parent._modules.update({name: new, **others})
    _note(context, path=path)
    return model


def wrap(
    model: nn.Module,
    *,
    path: str,
    module: ModuleSpec | None = None,
    name: str = "inner",
    context: Context | None = None,
) -> nn.Module:
    """Put a module around the one at `path`; the empty path wraps the entire model.

    Without `module` that is a Sequential, in which the wrapped one is called `name`; `append` and `prepend` then fill
    it. A `module` (a plugin's) is handed the wrapped one through its first parameter annotated nn.Module.
    """
    path = canonical(model, path)
    wrapped = get_module(model, path)
    if module is None:
        new: nn.Module = nn.Sequential()
        _check_free(new, path, name)
        new.add_module(name, wrapped)
        new.train(model.training)
    else:
        spec, shapes = ModuleSpec.parse(module), ModuleShapes(model, context)
        new = _build(model, spec, shapes.place_of(path), given={module_parameter(spec.name): wrapped})
        if path in (heads := heads_if_any(model, shapes=shapes)):
            replace_as_head(model, heads, path, new)
    _note(context, path=path)
    if not path:
        return new
    set_module(model, path, new)
    return model


def tie(model: nn.Module, *, path: str, to: str) -> nn.Module:
    """Share the module, or parameter, at `to`: `path` becomes the very same one. Shapes have to agree."""
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
        raise InputError(f"{path!r} is {list(old.shape)} and {to!r} is {list(source.shape)}: they cannot be shared")
    parent._parameters[name] = source


def _tie_modules(model: nn.Module, path: str, to: str) -> None:
    split(model, path)  # the model itself cannot be put elsewhere
    if f"{path}.".startswith(f"{to}.") or f"{to}.".startswith(f"{path}.") or not to:
        raise InputError(f"{path!r} and {to!r} lie inside each other or are the same")
    old, source = get_module(model, path), get_module(model, to)
    shapes = [{key: list(value.shape) for key, value in module.state_dict().items()} for module in (old, source)]
    if shapes[0] != shapes[1]:
        raise InputError(f"{path!r} contains {shapes[0]} and {to!r} {shapes[1]}: they cannot be shared")
    set_module(model, path, source)


def _parameter(model: nn.Module, path: str) -> nn.Parameter | None:
    """The parameter at `path`; None when there is a module. Raises InputError when neither does."""
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


def _build(model: nn.Module, module: Any, place: Place, **options: Any) -> nn.Module:
    """The module, built with the model's device, floating dtype and mode."""
    like: Tensor | None = next((p for p in model.parameters() if p.is_floating_point()), None)
    return ModuleSpec.parse(module).build(place, like=like, **options).train(model.training)


def _sequential(model: nn.Module, path: str) -> tuple[str, nn.Module]:
    path = canonical(model, path)
    parent = get_module(model, path)
    if not runs_in_order(parent):
        place = repr(path) if path else "the model"
        raise InputError(
            f"{place} is a {type(parent).__name__}, not a Sequential",
            suggestion="use add_module, which runs a module after any other; or wrap it first",
        )
    return path, parent


def _check_free(parent: nn.Module, path: str, name: str) -> None:
    place = repr(path) if path else "the model"
    if not name or "." in name:
        raise InputError(
            f"a module cannot be called {name!r}: a name is not empty and has no dots",
            suggestion="give the parent under path",
        )
    if name in parent._modules:
        raise InputError(
            f"{place} has a module {name!r}", suggestion=f"replace_module: {{path: {join(path, name)}, …}}"
        )
    if hasattr(parent, name):
        raise InputError(
            f"{name!r} is an attribute of {place} ({type(parent).__name__})", suggestion="choose another name"
        )
    if isinstance(parent, nn.ModuleList) and name != str(len(parent)):
        raise InputError(
            f"{place} is a ModuleList: its next module is called {len(parent)}", suggestion=str(len(parent))
        )


def _note(context: Context | None, **resolved: Any) -> None:
    if context is not None:
        context.resolved.update(resolved)
