"""A model as a tree of its modules: parameter counts, what trains, what is wired, shared or never called."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import nn

from zoo.model.freezing import FrozenPart
from zoo.model.paths import join
from zoo.model.wiring import wires

_WIDTH = 72  # of a layer's settings


@dataclass(frozen=True)
class Node:
    """A module, or `count` equal neighbours of which it is the first (`name` is `0-11` then, and every number one's).

    `parameters` are those in it with all that is inside it, `marked` how many of them bear each mark; `note` says
    what is odd about it. `facts` are the caller's. `settings` are a layer's own, in words.
    """

    path: str
    name: str
    kind: str
    settings: str
    parameters: int
    marked: Mapping[str, int]
    note: str
    facts: Hashable
    children: tuple[Node, ...]
    count: int = 1

    @property
    def label(self) -> str:
        """`0-11 (12×)`."""
        return self.name if self.count == 1 else f"{self.name} ({self.count}×)"

    @property
    def alike(self) -> Hashable:
        """What neighbours that share a line have in common: everything but where they are."""
        inside = tuple((child.name, child.count, child.alike) for child in self.children)
        mine = (self.kind, self.settings, self.parameters, tuple(self.marked.items()), self.note, self.facts)
        return *mine, inside


@dataclass(frozen=True)
class _Known:
    """What is known beside the modules: parameters by mark, modules that never run, where shared ones are."""

    marks: Mapping[str, frozenset[int]]
    uncalled: frozenset[str]
    first: dict[object, str]
    facts: Callable[[str], Hashable]


def module_tree(
    model: nn.Module,
    marks: Mapping[str, Iterable[str]] = MappingProxyType({}),
    *,
    uncalled: Collection[str] = (),
    facts: Callable[[str], Hashable] = lambda path: None,
) -> Node:
    """The modules of `model`; a shared one is taken apart at its first place.

    `marks` are names of parameters, by mark; `uncalled` are paths to note as never called, and `facts` says what else
    is known about the module at a path: neighbours for which it is not equal do not share a line.
    """
    named = list(model.named_parameters(remove_duplicate=False))
    by_name = {name: id(parameter) for name, parameter in named}
    marked = {mark: frozenset(by_name[name] for name in names if name in by_name) for mark, names in marks.items()}
    first: dict[object, str] = {}
    for path, thing in (*model.named_modules(remove_duplicate=False), *named):
        first.setdefault(thing, path)
    return _node(model, type(model).__name__, "", "", _Known(marked, frozenset(uncalled), first, facts))


def _node(module: nn.Module, name: str, path: str, note: str, known: _Known) -> Node:
    sizes = [(id(parameter), parameter.numel()) for parameter in module.parameters()]
    marked = {mark: sum(size for key, size in sizes if key in chosen) for mark, chosen in known.marks.items()}
    children = list(_children(module, path, known)) if known.first[module] == path else []
    inner = next(module.children(), None) is not None
    settings = "" if inner else " ".join(module.extra_repr().split())
    total = sum(size for _, size in sizes)
    folded = tuple(_fold(children))
    return Node(path, name, type(module).__name__, settings, total, marked, note, known.facts(path), folded)


def _children(module: nn.Module, path: str, known: _Known) -> Iterator[Node]:
    for name, child in module._modules.items():
        if child is not None:
            inside = join(path, name)
            yield _node(child, name, inside, _note(module, name, inside, known), known)


def _fold(nodes: list[Node]) -> Iterator[Node]:
    """Runs of equal ones that only have numbers for names as one."""
    for _, group in itertools.groupby(nodes, key=lambda node: (node.name.isdecimal() or node.name, node.alike)):
        first, *others = group
        if others:
            name, count = f"{first.name}-{others[-1].name}", 1 + len(others)
            values = {**vars(first), "name": name, "count": count}
            yield Node(**values)
        else:
            yield first


def _note(parent: nn.Module, name: str, path: str, known: _Known) -> str:
    child = parent.get_submodule(name)
    notes = ["wired after its parent"] if name in wires(parent) else []
    if known.first[child] != path:
        notes.append(f"is {known.first[child]}")
    else:
        shared = ((key, known.first[value]) for key, value in child.named_parameters(recurse=False))
        notes += [f"{key} is {place}" for key, place in shared if place != join(path, key)]
    if path in known.uncalled:
        notes.append("never called")
    return "; ".join(notes)


def drawn(node: Node, depth: int | None = None, indent: str = "") -> Iterator[tuple[str, Node]]:
    """Everything inside a node, down to `depth`, each with its branches and its label as text."""
    if depth is not None and depth < 1:
        return
    for position, child in enumerate(node.children):
        last = position == len(node.children) - 1
        yield f"{indent}{'└─' if last else '├─'} {child.label}", child
        yield from drawn(child, None if depth is None else depth - 1, indent + ("   " if last else "│  "))


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
    still = [name for name, p in model.named_parameters() if not p.requires_grad]
    root = module_tree(model, {"frozen": still if frozen is None else frozen.parameters}, uncalled=uncalled)
    rows = [(root.name, root), *((f"{text}  {_describe(node)}", node) for text, node in drawn(root, depth))]
    width = max(len(text) for text, _ in rows)
    return "\n".join(f"{text:<{width}}  {_figures(node)}  {node.note}".rstrip() for text, node in rows)


def _describe(node: Node) -> str:
    if not node.settings:
        return node.kind
    text = f"{node.kind}({node.settings})"
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 2]}…)"


def _figures(node: Node) -> str:
    if not node.parameters:
        return f"{'':>13}  {'':<6}"
    still = node.marked["frozen"]
    return f"{node.parameters:>13,}  {'frozen' if still == node.parameters else 'partly' if still else 'trains'}"
