"""The tree of dotted names, the order of its keys, and the blocks in it that may correspond."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from zoo.formats.entry import Entry
from zoo.remap.auto.units import STATISTICS, Classes, Signature, Unit

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
        open_ = [iter(self.children.values())]  # not by recursion: a file's names may be deeper than Python's stack
        while open_:
            child = next(open_[-1], None)
            if child is None:
                open_.pop()
            else:
                yield child
                open_.append(iter(child.children.values()))


def grow(units: Sequence[Unit], classes: Classes, both: frozenset[Signature]) -> Node:
    """The tree of `units`; contents count only the classes in `both`, those that occur on both sides."""
    root = Node("")
    for unit in units:
        node = root
        node.units.append(unit)
        for component in unit.path.split("."):
            if component not in node.children:
                node.children[component] = Node(f"{node.path}.{component}" if node.path else component)
            node = node.children[component]
            node.units.append(unit)
    for node in [root, *root.below()]:
        counts = Counter(classes[unit.signature] for unit in node.units)
        node.content = frozenset((cls, count) for cls, count in counts.items() if cls in both)
    return root


def innermost(node: Node) -> Node:
    """The deepest prefix with the same content: `model.net.a` where `model` and `model.net` contain nothing else."""
    while True:
        same = [child for child in node.children.values() if child.content == node.content and child.children]
        if len(same) != 1:
            return node
        node = same[0]


def containing(node: Node, content: Content) -> Node:
    """The only prefix inside that contains exactly `content`, which is less than all: a backbone beside a decoder."""
    if node.content == content or _size(content) < LEAST_CONTAINED:
        return node
    found = [below for below in node.below() if below.content == content]
    outermost = [one for one in found if not any(one.path.startswith(f"{other.path}.") for other in found)]
    return innermost(outermost[0]) if len(outermost) == 1 else node


LEAST_CONTAINED = 4  # units that do not meet in one prefix by chance


@dataclass(frozen=True)
class Item:
    """What is matched inside a block: a smaller block (`node`), or one unit. `path` is absolute."""

    path: str
    node: Node | None = field(compare=False)
    unit: Unit | None = field(compare=False)

    @property
    def place(self) -> int:
        found = self.node or self.unit
        assert found is not None
        return found.place

    @property
    def shown(self) -> str:
        """The path as it stands in the file."""
        return (self.unit.shown if self.unit else "") or self.path

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


_DIGITS = re.compile(r"(\d+)")


def is_registration(entries: Mapping[str, Entry]) -> bool:
    """Whether the order can be the one of registration: each prefix is contiguous, and names are not sorted.

    Names without prefixes show no order.
    """
    names = list(entries)
    if 2 * sum("." in name for name in names) < len(names):
        return False
    by_dtype: dict[str, list[str]] = {}
    for name, entry in entries.items():
        by_dtype.setdefault(entry.dtype, []).append(name)
    alphabetical = all(group == sorted(group) for group in by_dtype.values())
    natural = all(group == sorted(group, key=_natural) for group in by_dtype.values())
    return not alphabetical and not natural and _is_contiguous(names)


def _natural(name: str) -> list[tuple[int, int, str]]:
    return [(0, int(piece), "") if piece.isdigit() else (1, 0, piece) for piece in _DIGITS.split(name) if piece]


def _is_contiguous(names: Sequence[str]) -> bool:
    """Whether no prefix occurs again after another one."""
    closed: set[tuple[str, ...]] = set()
    opened: list[str] = []
    for name in names:
        components = name.split(".")[:-1]
        pairs = zip(opened, components, strict=False)
        common = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        if common < len(opened):  # what lies inside of it cannot occur again either
            closed.add(tuple(opened[: common + 1]))
        if common < len(components) and tuple(components[: common + 1]) in closed:
            return False
        opened = components
    return True


def blank(path: str) -> str:
    """The path with every number replaced by `#`."""
    return _DIGITS.sub("#", path)


def numbers(path: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in _DIGITS.findall(path))


@dataclass(frozen=True)
class Order:
    """Which of two items comes first on one side. `reliable`: the order of the entries can be that of registration;
    `certain`: it is, as they are a network's and not a file's.
    """

    reliable: bool
    certain: bool = False

    def before(self, first: Item, second: Item) -> bool | None:
        """Whether `first` was registered before `second`; None where that is not known."""
        if self.reliable:
            return first.place < second.place
        for one, other in zip(first.path.split("."), second.path.split("."), strict=False):
            if one != other:
                return int(one) < int(other) if one.isdigit() and other.isdigit() else None
        return None


@dataclass(frozen=True)
class Execution:
    """The order in which a network uses its tensors: position of the first use by tensor name."""

    positions: Mapping[str, int]

    def before(self, first: Item, second: Item) -> bool | None:
        one, other = self.position(first), self.position(second)
        return None if one is None or other is None else one < other

    def position(self, item: Item) -> int | None:
        used = [self.positions[name] for name in item.names if name in self.positions]
        return min(used, default=None)


Pairs = list[tuple[Item, Item]]
Question = tuple[tuple[str, ...], tuple[str, ...]]
Before = Callable[[Item, Item], bool | None]


@dataclass(eq=False)
class Block:
    """Two corresponding nodes and the pairs found inside so far. `roles` are those of all items on each side."""

    source: Node
    target: Node
    tentative: bool = False
    pairs: Pairs = field(default_factory=list)
    roles: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())

    def source_role(self, item: Item) -> str:
        """What the item is to its block: its path, without the numbers of the block's own path."""
        return _role(self.source, item)

    def target_role(self, item: Item) -> str:
        return _role(self.target, item)


def _role(base: Node, item: Item) -> str:
    return blank(base.path) + item.path[len(base.path) :]


@dataclass(eq=False)
class Group:
    """Items inside a block that are alike in content: which of the sources is which of the targets is open."""

    block: Block
    sources: list[Item]
    targets: list[Item]

    @property
    def even(self) -> bool:
        return len(self.sources) == len(self.targets)

    @property
    def question(self) -> Question:
        """The roles on both sides: where they are equal, it is the same question in another block."""
        return (
            tuple(self.block.source_role(item) for item in self.sources),
            tuple(self.block.target_role(item) for item in self.targets),
        )

    def within(self, item: Item, base: Node) -> str:
        return item.path[len(base.path) :].lstrip(".")
