"""Which modules are heads by a surgery's doing: a head need not look like one (an MLP, a cosine layer).

A mark is an attribute of the module, so it goes where the module goes; it holds the head's rank, the main one being 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from zoo.model.paths import get_module

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
