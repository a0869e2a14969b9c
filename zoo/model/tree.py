"""A model as a tree of text: modules with parameter counts, what trains, what is wired, shared or never called."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from torch import nn

from zoo.model.freezing import FrozenPart
from zoo.model.paths import join
from zoo.model.wiring import wires

_WIDTH = 72  # of a layer's settings


@dataclass(frozen=True)
class _Marks:
    """What is known beside the modules: frozen parameters, modules that never run, where shared ones are."""

    frozen: frozenset[int]
    uncalled: frozenset[str]
    first: dict[object, str]


def tree(
    model: nn.Module,
    frozen: FrozenPart | None = None,
    *,
    uncalled: Collection[str] = (),
    depth: int | None = None,
) -> str:
    """The module tree as text, one line a module; equal neighbours share a line (`0-11`).

    A line has the name, the class with its settings, the number of parameters, and whether they train or are frozen
    (by `frozen`, or by `requires_grad`). `uncalled` are paths to mark as never called; `depth` cuts the tree.
    """
    chosen = {name for name, p in model.named_parameters() if not p.requires_grad}
    if frozen is not None:
        chosen = set(frozen.parameters)
    still = frozenset(id(parameter) for name, parameter in model.named_parameters() if name in chosen)
    first: dict[object, str] = {}
    for path, thing in (*model.named_modules(remove_duplicate=False), *model.named_parameters(remove_duplicate=False)):
        first.setdefault(thing, path)
    marks = _Marks(still, frozenset(uncalled), first)
    lines = [(type(model).__name__, model, ""), *_lines(model, "", "", marks, depth)]
    texts = [text for text, _, _ in lines]
    width = max(map(len, texts))
    rows = (f"{text:<{width}}  {_figures(module, still)}  {note}" for text, module, note in lines)
    return "\n".join(row.rstrip() for row in rows)


def _lines(
    module: nn.Module, path: str, indent: str, marks: _Marks, depth: int | None
) -> Iterator[tuple[str, nn.Module, str]]:
    """(text, module, note) of everything inside `module`."""
    if depth is not None and depth < 1:
        return
    groups = _groups(module, path, marks)
    for position, group in enumerate(groups):
        last = position == len(groups) - 1
        name, child = group[0]
        label = name if len(group) == 1 else f"{name}-{group[-1][0]} ({len(group)}×)"
        inside = join(path, name)
        yield f"{indent}{'└─' if last else '├─'} {label}  {_describe(child)}", child, _note(module, name, inside, marks)
        if marks.first[child] == inside:
            yield from _lines(
                child, inside, indent + ("   " if last else "│  "), marks, None if depth is None else depth - 1
            )


def _groups(module: nn.Module, path: str, marks: _Marks) -> list[list[tuple[str, nn.Module]]]:
    """The children, runs of equal ones that only have numbers for names together."""
    children = [(name, child) for name, child in module._modules.items() if child is not None]

    def alike(named: tuple[str, nn.Module]) -> tuple[object, ...]:
        name, child = named
        still = tuple(id(parameter) in marks.frozen for parameter in child.parameters())
        return name.isdecimal() or name, str(child), still, _note(module, name, join(path, name), marks)

    return [list(group) for _, group in itertools.groupby(children, key=alike)]


def _describe(module: nn.Module) -> str:
    kind, settings = type(module).__name__, " ".join(module.extra_repr().split())
    if next(module.children(), None) is not None or not settings:
        return kind
    text = f"{kind}({settings})"
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 2]}…)"


def _note(parent: nn.Module, name: str, path: str, marks: _Marks) -> str:
    child = parent.get_submodule(name)
    notes = ["wired after its parent"] if name in wires(parent) else []
    if marks.first[child] != path:
        notes.append(f"is {marks.first[child]}")
    else:
        shared = ((key, marks.first[value]) for key, value in child.named_parameters(recurse=False))
        notes += [f"{key} is {place}" for key, place in shared if place != join(path, key)]
    if path in marks.uncalled:
        notes.append("never called")
    return "; ".join(notes)


def _figures(module: nn.Module, still: frozenset[int]) -> str:
    counts = [(parameter.numel(), id(parameter) in still) for parameter in module.parameters()]
    total, frozen = sum(count for count, _ in counts), sum(count for count, is_frozen in counts if is_frozen)
    if not counts:
        return f"{'':>13}  {'':<6}"
    state = "frozen" if frozen == total else "trains" if not frozen else "partly"
    return f"{total:>13,}  {state:<6}"
