"""Blocks that correspond, and the groups of items inside them that are alike in content."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from zoo.checkpoint.match.order import blank
from zoo.checkpoint.match.tree import Item, Node

Pairs = list[tuple[Item, Item]]
Question = tuple[tuple[str, ...], tuple[str, ...]]
Before = Callable[[Item, Item], bool | None]


@dataclass(eq=False)
class Block:
    """Two nodes that correspond, and the pairs found inside so far. `roles` are those of all items on each side."""

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
