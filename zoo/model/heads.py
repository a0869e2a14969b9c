"""Find a model's classifier, whatever it is called, put another in its place, and remember which were put there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn

from zoo.contracts import Context
from zoo.errors import InputError
from zoo.model.paths import get_module, set_module
from zoo.model.shapes import Arrivals

_MARK = "_zoo_head"


def mark_head(module: nn.Module, rank: int = 0) -> None:
    """Remember that `module` is a head; in a Sequential of dropout and one layer, that layer is."""
    layers = [child for child in module.children() if next(child.parameters(), None) is not None]
    if isinstance(module, nn.Sequential) and len(layers) == 1:
        mark_head(layers[0], rank)
    else:
        module.__dict__[_MARK] = rank


def is_marked(module: nn.Module) -> bool:
    return _MARK in module.__dict__


def marked_heads(model: nn.Module) -> list[str]:
    """The paths of the modules that surgeries made heads, the main one first; what lies inside one does not count."""
    ranks: dict[str, int] = {}
    for path, module in model.named_modules():
        if is_marked(module) and not any(f"{path}.".startswith(f"{outer}.") for outer in ranks):
            ranks[path] = module.__dict__[_MARK]
    return sorted(ranks, key=lambda path: ranks[path])


def take_over(model: nn.Module, heads: Sequence[str], path: str, new: nn.Module) -> None:
    """Let `new`, about to stand at `path`, be the head where one of `heads` stands there or inside."""
    ranks = [rank for rank, head in enumerate(heads) if f"{head}.".startswith(f"{path}.")]
    if ranks:
        for rank, head in enumerate(heads):
            mark_head(get_module(model, head), rank)
        mark_head(new, ranks[0])


def come_behind(model: nn.Module, heads: Sequence[str], parent: str, new: nn.Module) -> None:
    """Let `new`, about to run last in the module at `parent`, be the main head where one of `heads` lies in there.

    Heads that surgeries made stay heads beside it: they are as new as it is.
    """
    if any(head.startswith(f"{parent}." if parent else "") for head in heads):
        for rank, head in enumerate(marked_heads(model), 1):
            mark_head(get_module(model, head), rank)
        mark_head(new)


def find_head(model: nn.Module) -> str:
    """The path of the classifier; the first one where a model has several. Raises InputError when there is none."""
    return find_heads(model)[0]


def find_heads(model: nn.Module, *, context: Context | None = None, arrivals: Arrivals | None = None) -> list[str]:
    """The paths of all modules that give class scores: one as a rule, two in distilled transformers, and those of
    auxiliary heads that only run in training. Raises InputError when there is none."""
    if marked := marked_heads(model):
        return marked
    if hinted := _hinted(model):
        return hinted
    arrivals = arrivals or Arrivals(model, context)
    runs = arrivals.furthest.error is None
    found = _called_last(model, arrivals) if runs else _registered_last(model)
    if not found:
        raise InputError(
            f"{type(model).__name__} has no linear layer or 1x1 convolution that could be its head",
            suggestion="say which module it is: its path",
        )
    return found


def replace_head(model: nn.Module, factory: Callable[[int], nn.Module]) -> nn.Module:
    """Put `factory(width)` in the place of the classifier (of each one, where there are several).

    `width` is the number of features that arrive there. The new module goes to the old one's device and dtype and into
    its mode. Returns the model.
    """
    arrivals = Arrivals(model)
    for rank, path in enumerate(find_heads(model, arrivals=arrivals)):
        old = get_module(model, path)
        width = getattr(old, "in_features", getattr(old, "in_channels", None))
        put_head(model, path, factory(width if isinstance(width, int) else arrivals.at(path)[-1]), rank)
    return model


def put_head(model: nn.Module, path: str, head: nn.Module, rank: int = 0) -> None:
    """Put `head` at `path`, in the old one's device, dtype and mode, and mark it as the head of that rank."""
    old = get_module(model, path)
    like = next((tensor for tensor in old.parameters() if tensor.is_floating_point()), None)
    if like is not None:
        head.to(device=like.device, dtype=like.dtype)
    head.train(old.training)
    mark_head(head, rank)
    set_module(model, path, head)


def classifies(module: nn.Module) -> bool:
    """Whether a module can be a classifier: a linear layer, or a convolution whose kernel is 1 wide."""
    if isinstance(module, nn.modules.conv._ConvNd):
        return not module.transposed and all(size == 1 for size in module.kernel_size)
    return isinstance(module, nn.Linear)


def _hinted(model: nn.Module) -> list[str]:
    """What a timm model says: its configuration names its heads, and `get_classifier` returns them. Some
    configurations forget the second head of a distilled network."""
    told: Any = getattr(model, "default_cfg", None)
    names = (told.get("classifier") or ()) if isinstance(told, dict) else ()
    if not names:
        return []
    modules = dict(model.named_modules())
    ask: Any = getattr(model, "get_classifier", tuple)
    returned = ask()
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


def _called_last(model: nn.Module, arrivals: Arrivals) -> list[str]:
    """The last layer that ran, if it is a classifier, and that of each part of the same width that only training runs.

    An encoder that ends in something else (a convolution and its batch norm) has no head.
    """
    trace, modules = arrivals.furthest.trace, dict(model.named_modules())
    layers = [path for path in trace.order if next(modules[path].parameters(recurse=False), None) is not None]
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
