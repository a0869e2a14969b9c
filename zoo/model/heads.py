"""Find a model's classifier, whatever it is called, put another in its place, and know it again afterwards.

What a surgery installs as the head may look like none (an MLP, a plugin's layer), so the module itself carries a mark,
`_zoo_head` in its `__dict__`, with its rank among several heads: it survives copies, and a search finds it first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn

from zoo.contracts import Context
from zoo.errors import InputError
from zoo.model.paths import get_module, has_parameters, set_module
from zoo.model.shapes import ModuleShapes

_MARK = "_zoo_head"


def find_head(model: nn.Module) -> str:
    """The path of the classifier; the first one where a model has several. Raises InputError when there is none."""
    return find_heads(model)[0]


def find_heads(model: nn.Module, *, context: Context | None = None, shapes: ModuleShapes | None = None) -> list[str]:
    """The paths of all modules that give class scores: one as a rule, two in distilled transformers, and those of
    auxiliary heads that only run in training. Raises InputError when there is none.

    Asked in this order: what surgeries installed, what a timm model's configuration names, the last layer that runs,
    and, for a model that no likely input goes through, the last linear layer or 1x1 convolution that is registered.
    """
    if installed := installed_heads(model):
        return installed
    if configured := _configured(model):
        return configured
    shapes = shapes or ModuleShapes(model, context)
    runs = shapes.furthest.error is None
    found = _called_last(model, shapes) if runs else _registered_last(model)
    if not found:
        raise InputError(
            f"{type(model).__name__} has no linear layer or 1x1 convolution that could be its head",
            suggestion="say which module it is: its path",
        )
    return found


def heads_if_any(model: nn.Module, *, shapes: ModuleShapes | None = None) -> list[str]:
    """As `find_heads`, with an empty list for a model that has no head."""
    try:
        return find_heads(model, shapes=shapes)
    except InputError:
        return []


def replace_head(model: nn.Module, factory: Callable[[int], nn.Module]) -> nn.Module:
    """Put `factory(width)` in the place of the classifier (of each one, where there are several).

    `width` is the number of its input features. The new module takes the old one's device, dtype and mode. Returns the
    model.
    """
    shapes = ModuleShapes(model)
    for rank, path in enumerate(find_heads(model, shapes=shapes)):
        old = get_module(model, path)
        width = getattr(old, "in_features", getattr(old, "in_channels", None))
        put_head(model, path, factory(width if isinstance(width, int) else shapes.input_of(path)[-1]), rank)
    return model


def put_head(model: nn.Module, path: str, head: nn.Module, rank: int = 0) -> None:
    """Put `head` at `path`, with the old one's device, dtype and mode, and mark it as the head of that rank."""
    old = get_module(model, path)
    like = next((tensor for tensor in old.parameters() if tensor.is_floating_point()), None)
    if like is not None:
        head.to(device=like.device, dtype=like.dtype)
    head.train(old.training)
    install_as_head(head, rank)
    set_module(model, path, head)


def classifies(module: nn.Module) -> bool:
    """Whether a module can be a classifier: a linear layer, or a convolution whose kernel is 1 wide."""
    if isinstance(module, nn.modules.conv._ConvNd):
        return not module.transposed and all(size == 1 for size in module.kernel_size)
    return isinstance(module, nn.Linear)


def _configured(model: nn.Module) -> list[str]:
    """What a timm model says: its configuration names its heads, and `get_classifier` returns them. Some
    configurations forget the second head of a distilled network."""
    configuration: Any = getattr(model, "default_cfg", None)
    names = (configuration.get("classifier") or ()) if isinstance(configuration, dict) else ()
    if not names:
        return []
    modules = dict(model.named_modules())
    returned: Any = getattr(model, "get_classifier", tuple)()
    heads = list(returned) if isinstance(returned, tuple | list) else [returned]
    found = [*([names] if isinstance(names, str) else names), *(path for path in modules if modules[path] in heads)]
    inside = (_last_inside(modules, path) for path in found)
    return list(dict.fromkeys(path for path in inside if path is not None))


def _last_inside(modules: dict[str, nn.Module], path: str) -> str | None:
    """`path`, or the last classifier inside it; an encoder's Identity is the place of one."""
    if isinstance(modules.get(path), nn.Identity):
        return path
    found = [name for name in modules if name == path or name.startswith(f"{path}.")]
    return _last(modules, found)


def _called_last(model: nn.Module, shapes: ModuleShapes) -> list[str]:
    """The last layer that ran, if it is a classifier, and that of each part of the same width that only training runs.

    An encoder that ends in something else (a convolution and its batch norm) has no head.
    """
    trace, modules = shapes.furthest.trace, dict(model.named_modules())
    layers = [path for path in trace.order if has_parameters(modules[path], recurse=False)]
    if not layers or not classifies(modules[layers[-1]]):
        return []
    spare = [_last_inside(modules, path) for path in trace.unused()]
    width = out_width(modules[layers[-1]])
    return [layers[-1], *(path for path in spare if path is not None and out_width(modules[path]) == width)]


def _registered_last(model: nn.Module) -> list[str]:
    modules = dict(model.named_modules())
    last = _last(modules, modules)
    return [] if last is None else [last]


def _last(modules: dict[str, nn.Module], paths: Iterable[str]) -> str | None:
    return next((path for path in reversed(list(paths)) if classifies(modules[path])), None)


def out_width(module: nn.Module) -> int | None:
    """The number of features or channels a layer gives, None where it does not say."""
    width = getattr(module, "out_features", getattr(module, "out_channels", None))
    return width if isinstance(width, int) else None


def install_as_head(module: nn.Module, rank: int = 0) -> None:
    """Mark `module` as a head of that rank; in a Sequential of dropout and one layer, that layer is the head."""
    layers = [child for child in module.children() if has_parameters(child)]
    if isinstance(module, nn.Sequential) and len(layers) == 1:
        install_as_head(layers[0], rank)
    else:
        module.__dict__[_MARK] = rank


def is_installed_head(module: nn.Module) -> bool:
    """Whether a surgery installed `module` as a head."""
    return _MARK in module.__dict__


def installed_heads(model: nn.Module) -> list[str]:
    """The paths of the modules that surgeries installed as heads, the main one first; none inside another."""
    ranks: dict[str, int] = {}
    for path, module in model.named_modules():
        if is_installed_head(module) and not any(f"{path}.".startswith(f"{outer}.") for outer in ranks):
            ranks[path] = module.__dict__[_MARK]
    return sorted(ranks, key=lambda path: ranks[path])


def replace_as_head(model: nn.Module, heads: Sequence[str], path: str, new: nn.Module) -> None:
    """Mark `new`, about to replace the module at `path`, as the head where one of `heads` is there or inside."""
    ranks = [rank for rank, head in enumerate(heads) if f"{head}.".startswith(f"{path}.")]
    if ranks:
        for rank, head in enumerate(heads):
            install_as_head(get_module(model, head), rank)
        install_as_head(new, ranks[0])


def append_as_head(model: nn.Module, heads: Sequence[str], parent: str, new: nn.Module) -> None:
    """Mark `new`, about to be appended to the module at `parent`, as the main head where one of `heads` is inside.

    Heads that earlier surgeries installed stay heads beside it: they are as new as it is.
    """
    if any(head.startswith(f"{parent}." if parent else "") for head in heads):
        for rank, head in enumerate(installed_heads(model), 1):
            install_as_head(get_module(model, head), rank)
        install_as_head(new)
