"""Find the stages of a model (`layer1` … `layer4`, the children of `blocks`), from its structure alone."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from torch import nn

from zoo.errors import InputError
from zoo.formats.names import ancestors
from zoo.model.heads import heads_if_any
from zoo.model.paths import has_parameters, join


def find_stages(model: nn.Module) -> list[str]:
    """Paths of the stages, in order of registration; the classifier is never one.

    Raises InputError when the model has no two parts.
    """
    # Every row of siblings is a candidate: numbered ones (`layer1` … `layer4`, `denseblock1` …) and the children of a
    # Sequential or ModuleList (`blocks`, `features`). A row counts the layers with parameters inside it; the one with
    # the most is the main chain, the outermost of equal ones, as `named_modules` gives that first. A row with less than
    # half of all layers is a detail of the model (a branch, the inside of one block): its own children are the stages.
    heads = heads_if_any(model)
    layers = [path for path in _layers(model) if path not in heads]
    inside = {above for path in _layers(model, shared=True) if path not in heads for above in (*ancestors(path), path)}
    best: list[str] = []
    covered = (len(layers) - 1) // 2  # a chain must contain more than this
    for chain in _chains(model, inside):
        contained = sum(any(f"{layer}.".startswith(f"{link}.") for link in chain) for layer in layers)
        if contained > covered:
            best, covered = chain, contained
    best = best or _links("", model, inside)
    if len(best) < 2:
        raise InputError("first_stages: the model has no chain of stages", suggestion="use the policy below or pattern")
    return best


def _layers(model: nn.Module, *, shared: bool = False) -> Iterator[str]:
    """The paths of modules with parameters of their own; `shared` ones at every place."""
    named = model.named_modules(remove_duplicate=not shared)
    return (path for path, module in named if has_parameters(module, recurse=False))


def _chains(model: nn.Module, inside: Collection[str]) -> Iterator[list[str]]:
    for path, module in model.named_modules():
        links = _links(path, module, inside)
        if isinstance(module, nn.Sequential | nn.ModuleList):
            yield links
        else:
            yield from _numbered(links)


def _links(path: str, module: nn.Module, inside: Collection[str]) -> list[str]:
    """The children that contain a layer other than the classifier."""
    places = (join(path, name) for name, _ in module.named_children())
    return [place for place in places if place in inside]


def _numbered(paths: list[str]) -> Iterator[list[str]]:
    families: dict[str, list[str]] = {}
    for path in paths:
        if match := re.fullmatch(r"(.*?)\d+", path):
            families.setdefault(match.group(1), []).append(path)
    yield from (family for family in families.values() if len(family) > 1)
