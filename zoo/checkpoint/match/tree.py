"""The tree that dotted names make, with what each node holds: nodes of equal content are blocks that may correspond."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from zoo.checkpoint.match.classes import Classes
from zoo.checkpoint.match.units import STATISTICS, Signature, Unit

Content = frozenset[tuple[Signature, int]]


@dataclass
class Node:
    """A dotted prefix. `units` are those at or below it, in order; `content` counts their classes."""

    path: str
    units: list[Unit] = field(default_factory=list)
    children: dict[str, Node] = field(default_factory=dict)
    content: Content = frozenset()

    @property
    def place(self) -> int:
        return self.units[0].place

    def below(self) -> Iterable[Node]:
        """Every node under this one, parents first."""
        for child in self.children.values():
            yield child
            yield from child.below()


def grow(units: Sequence[Unit], classes: Classes, both: frozenset[Signature]) -> Node:
    """The tree of `units`; contents count only classes in `both`, which are those that either side has."""
    root = Node("")
    for unit in units:
        node = root
        node.units.append(unit)
        for component in unit.path.split("."):
            path = f"{node.path}.{component}" if node.path else component
            node = node.children.setdefault(component, Node(path))
            node.units.append(unit)
    for node in [root, *root.below()]:
        counts = Counter(classes[unit.signature] for unit in node.units)
        node.content = frozenset((cls, count) for cls, count in counts.items() if cls in both)
    return root


def innermost(node: Node) -> Node:
    """Down through prefixes that hold the same as their parent, to the last one."""
    while True:
        same = [child for child in node.children.values() if child.content == node.content and child.children]
        if len(same) != 1:
            return node
        node = same[0]


@dataclass(frozen=True)
class Item:
    """What is matched inside a block: a smaller block (`node`), or one unit. `path` is whole, not relative."""

    path: str
    node: Node | None = field(compare=False)
    unit: Unit | None = field(compare=False)

    @property
    def place(self) -> int:
        holder = self.node or self.unit
        assert holder is not None
        return holder.place

    @property
    def names(self) -> list[str]:
        """The tensors in it, but for the statistics of norms."""
        units = self.node.units if self.node else [self.unit] if self.unit else []
        parts = [part for unit in units for role, part in unit.parts.items() if role not in STATISTICS]
        return [name for part in parts for name in part.names if name]


def common_items(source: Node, target: Node, classes: Classes) -> list[tuple[list[Item], list[Item]]]:
    """What corresponds inside two nodes, up to the choice within each group: ([items of source], [of target]).

    The largest blocks that both sides hold equally often come first; what no such block holds comes unit by unit.
    """
    groups: list[tuple[list[Item], list[Item]]] = []
    taken: tuple[set[str], set[str]] = (set(), set())
    inside = [_blocks(node) for node in (source, target)]
    shared = [content for content in inside[0] if content in inside[1]]
    contents = sorted(shared, key=_size, reverse=True)
    for content in contents:
        free = [
            [node for node in nodes[content] if not _covered(node, covered)]
            for nodes, covered in zip(inside, taken, strict=True)
        ]
        if free[0] and len(free[0]) == len(free[1]):
            groups.append(([Item(n.path, n, None) for n in free[0]], [Item(n.path, n, None) for n in free[1]]))
            for nodes, covered in zip(free, taken, strict=True):
                covered.update(unit.path for node in nodes for unit in node.units)
    return groups + _loose(source, target, taken, classes)


def _blocks(node: Node) -> dict[Content, list[Node]]:
    """Nodes under `node` with at least two units, by content; of a chain with equal content the topmost."""
    found: dict[Content, list[Node]] = {}
    for below in node.below():
        if _size(below.content) < 2 or below.content == node.content:
            continue
        known = found.setdefault(below.content, [])
        if not any(below.path.startswith(f"{above.path}.") for above in known):
            known.append(below)
    return found


def _size(content: Content) -> int:
    return sum(count for _, count in content)


def _covered(node: Node, covered: set[str]) -> bool:
    return any(unit.path in covered for unit in node.units)


def _loose(
    source: Node, target: Node, taken: tuple[set[str], set[str]], classes: Classes
) -> list[tuple[list[Item], list[Item]]]:
    """Units outside all chosen blocks, by class; a class that only one side has left is not here."""
    sides: list[dict[Signature, list[Item]]] = [{}, {}]
    for node, covered, side in zip((source, target), taken, sides, strict=True):
        for unit in node.units:
            if unit.path not in covered:
                side.setdefault(classes[unit.signature], []).append(Item(unit.path, None, unit))
    return [(items, sides[1][cls]) for cls, items in sides[0].items() if cls in sides[1]]
