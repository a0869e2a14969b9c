"""Find the stages of a model: the links of its main chain, from structure alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import nn

from zoo.errors import InputError
from zoo.model.heads import find_heads
from zoo.model.paths import join


def find_stages(model: nn.Module) -> list[str]:
    """Paths of the stages, in order of registration.

    Candidates are siblings that are numbered (`layer1` … `layer4`, `denseblock1` …) and the children of a Sequential or
    ModuleList (`blocks`, `features`); the chain that holds most of the model's layers is taken, the outermost on equal
    terms. Where none holds half of them, the model's own children are the stages. The classifier is never a stage.
    Raises InputError when the model has no two parts.
    """
    heads = _heads(model)
    layers = [path for path, module in model.named_modules() if path not in heads and _own_parameters(module)]
    best: list[str] = []
    covered = (len(layers) - 1) // 2  # a chain has to hold more than this
    for chain in _chains(model, heads):
        held = sum(_inside(layer, chain) for layer in layers)
        if held > covered:
            best, covered = chain, held
    best = best or _links("", model, heads)
    if len(best) < 2:
        raise InputError("first_stages: the model has no chain of stages", suggestion="use the policy below or pattern")
    return best


def _chains(model: nn.Module, heads: list[str]) -> Iterator[list[str]]:
    for path, module in model.named_modules():
        links = _links(path, module, heads)
        if isinstance(module, nn.Sequential | nn.ModuleList):
            yield links
        else:
            yield from _numbered(links)


def _numbered(paths: list[str]) -> Iterator[list[str]]:
    families: dict[str, list[str]] = {}
    for path in paths:
        if match := re.fullmatch(r"(.*?)\d+", path):
            families.setdefault(match.group(1), []).append(path)
    yield from (family for family in families.values() if len(family) > 1)


def _links(path: str, module: nn.Module, heads: list[str]) -> list[str]:
    """Children with parameters, without the classifier and what contains nothing else."""
    children = ((join(path, name), child) for name, child in module.named_children())
    return [
        place
        for place, child in children
        if any(_own_parameters(m) and join(place, inner).rstrip(".") not in heads for inner, m in child.named_modules())
    ]


def _heads(model: nn.Module) -> list[str]:
    try:
        return find_heads(model)
    except InputError:
        return []


def _inside(layer: str, chain: list[str]) -> bool:
    return any(layer == link or layer.startswith(f"{link}.") for link in chain)


def _own_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))
