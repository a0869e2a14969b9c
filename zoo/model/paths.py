"""Reach modules by their dotted path, and say what is near when a path leads nowhere.

A path is the names of children joined by dots, as `named_modules` gives it: `layer4.1.conv2`, `classifier.6`,
`0.block 1.0` (names may hold spaces). The empty path is the model itself. A negative number counts from a
Sequential's or ModuleList's end: `classifier.-1`.
"""

from __future__ import annotations

from torch import nn

from zoo.errors import InputError, did_you_mean, listed

_SHOWN = 12  # children listed in an error


def module_paths(model: nn.Module) -> list[str]:
    """Every module's path in order of registration, the model's own (`""`) first, shared modules at each place."""
    return [path for path, _ in model.named_modules(remove_duplicate=False)]


def canonical(model: nn.Module, path: str) -> str:
    """`path` as `named_modules` spells it: negative indices counted out.

    Raises InputError with the nearest existing paths when it leads nowhere.
    """
    names: list[str] = []
    module = model
    for name in path.split(".") if path else []:
        child = _child_name(module, name)
        if child is None:
            raise _lost(model, path, ".".join(names), module)
        names.append(child)
        module = module.get_submodule(child)
    return ".".join(names)


def get_module(model: nn.Module, path: str) -> nn.Module:
    """The module at `path`. Raises InputError with the nearest existing paths when there is none."""
    return model.get_submodule(canonical(model, path))


def split(model: nn.Module, path: str) -> tuple[nn.Module, str]:
    """The parent of the module at `path`, and its name there. Raises InputError for the model itself."""
    path = canonical(model, path)
    if not path:
        raise InputError("the path is empty: that is the model itself, which has no parent", suggestion=_top(model))
    parent, _, name = path.rpartition(".")
    return model.get_submodule(parent), name


def set_module(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put `module` where `path` leads, keeping its place in the order. Raises InputError when nothing is there."""
    parent, name = split(model, path)
    setattr(parent, name, module)


def join(parent: str, name: str) -> str:
    """The path of the child `name` of the module at `parent`."""
    return f"{parent}.{name}" if parent else name


def has_parameters(module: nn.Module, *, recurse: bool = True) -> bool:
    """Whether a module has parameters, those of the modules inside it included unless `recurse` is False."""
    return next(module.parameters(recurse=recurse), None) is not None


def _child_name(module: nn.Module, name: str) -> str | None:
    children = dict(module.named_children())
    if module._modules.get(name) is not None:
        return name
    if isinstance(module, nn.Sequential | nn.ModuleList) and name.startswith("-") and name[1:].isdecimal():
        position = int(name)
        return list(children)[position] if -len(children) <= position < 0 else None
    return None


def _lost(model: nn.Module, path: str, good: str, module: nn.Module) -> InputError:
    """The error for a path of which only the part `good` exists, which is `module`."""
    children = [name for name, _ in module.named_children()]
    place = f"{good!r} ({type(module).__name__})" if good else f"the model ({type(module).__name__})"
    held = f"{place} contains {listed(children, _SHOWN)}" if children else f"{place} contains no modules"
    rest = path[len(good) :].lstrip(".")
    hint = did_you_mean(path, [known for known in module_paths(model) if known])
    return InputError(f"no module at {path!r}: {rest.split('.')[0]!r} is not there; {held}", suggestion=hint)


def _top(model: nn.Module) -> str:
    return f"its modules are {listed((name for name, _ in model.named_children()), _SHOWN)}"
