"""Matches two trees of units from the top down; what no evidence decides stays open and is reported."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

from zoo.remap.auto import evidence
from zoo.remap.auto.beside import Beside, beside, same_neighbour
from zoo.remap.auto.tree import (
    Block,
    Execution,
    Group,
    Item,
    Node,
    Order,
    Pairs,
    Question,
    common_items,
    grow,
    holding,
    innermost,
)
from zoo.remap.auto.units import Classes, Signature, Unit

MIN_SURE = 6  # pairs needed to judge an order by
CONCORDANCE = 0.75  # share of neighbours among them that must stand in the same order; by chance it is a half

Choice = tuple[int, ...]  # for each source of a group, the index of its target
Make = tuple[frozenset[str], frozenset[str]]  # the roles that a kind of block has on both sides


@dataclass(frozen=True)
class Side:
    """One state dict as units, with what is known of its order."""

    units: Sequence[Unit]
    order: Order
    execution: Execution | None = None

    @cached_property
    def beside(self) -> Beside:
        """The layers that its norms stand beside."""
        return beside(self.units, self.order.certain)


@dataclass(frozen=True)
class Decision:
    """A group that roles and shapes left open, the pairs that were chosen, and the evidence that decided."""

    reason: str
    pairs: tuple[tuple[str, str], ...]


@dataclass
class Solver:
    """One run of the matcher. `choices` decides groups that would stay open, by their question.

    After `run`, `pairs` holds the units that correspond, `tentative` those of their sources that depend on a guess,
    and `undecided` the groups that were guessed.
    """

    source: Side
    target: Side
    classes: Classes
    choices: Mapping[Question, Choice] = field(default_factory=dict)
    pairs: list[tuple[Unit, Unit]] = field(default_factory=list)
    tentative: set[str] = field(default_factory=set)
    blocks: list[Block] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    undecided: list[Group] = field(default_factory=list)
    _open: list[Group] = field(default_factory=list)
    _matched: dict[str, str] = field(default_factory=dict)
    _known: dict[Make, dict[str, set[str]]] = field(default_factory=dict)

    def run(self) -> None:
        both: frozenset[Signature] = self._kinds(self.source) & self._kinds(self.target)
        roots = [grow(side.units, self.classes, both) for side in (self.source, self.target)]
        self._enter(roots[0], roots[1], tentative=False)
        while self._decide_any():
            pass
        while self._open:
            self._guess(self._open.pop(0))
            while self._decide_any():
                pass

    def _kinds(self, side: Side) -> frozenset[Signature]:
        return frozenset(self.classes[unit.signature] for unit in side.units)

    def _enter(self, source: Node, target: Node, tentative: bool) -> None:
        """Open two nodes that correspond: what is alone of its kind is matched, the rest waits for evidence."""
        source, target = innermost(source), innermost(target)
        block = Block(holding(source, target.content), holding(target, source.content), tentative)
        items = common_items(block.source, block.target, self.classes)
        block.roles = (
            frozenset(block.source_role(item) for sources, _ in items for item in sources),
            frozenset(block.target_role(item) for _, targets in items for item in targets),
        )
        self.blocks.append(block)
        for sources, targets in items:
            if len(sources) == len(targets) == 1:
                self._accept(block, sources[0], targets[0])
            else:
                self._open.append(Group(block, sources, targets))

    def _accept(self, block: Block, source: Item, target: Item) -> None:
        block.pairs.append((source, target))
        if not block.tentative:
            known = self._known.setdefault(block.roles, {})
            known.setdefault(block.source_role(source), set()).add(block.target_role(target))
        if source.node and target.node:
            self._enter(source.node, target.node, block.tentative)
        elif source.unit and target.unit:
            self.pairs.append((source.unit, target.unit))
            if not block.tentative:
                self._matched[source.path] = target.path
            if block.tentative:
                self.tentative.add(source.path)

    def _decide_any(self) -> bool:
        """Decide one group that evidence decides; whether there was one."""
        for group in self._open:
            reason, pairs = self._evidence(group)
            if pairs:
                self._settle(group, pairs, reason)
                return True
        return False

    def _settle(self, group: Group, pairs: Pairs, reason: str) -> None:
        """Accept `pairs` of the group; where one item is left on both sides, it is decided too."""
        left = [item for item in group.sources if item not in {source for source, _ in pairs}]
        spare = [item for item in group.targets if item not in {target for _, target in pairs}]
        if len(left) == len(spare) == 1:
            pairs = [*pairs, (left.pop(), spare.pop())]
        group.sources, group.targets = left, spare
        if not (left and spare):
            self._open.remove(group)
        self.decisions.append(Decision(reason, tuple((source.path, target.path) for source, target in pairs)))
        for source, target in pairs:
            self._accept(group.block, source, target)

    def _orders(self) -> tuple[Order, Order]:
        """The orders of both sides; two of registration must agree on what is matched by now, or neither counts."""
        both = self.source.order.reliable and self.target.order.reliable
        sure = sorted((its.place, mine.place) for mine, its in self.pairs if mine.path not in self.tentative)
        rising = sum(first[1] < second[1] for first, second in pairwise(sure))
        if both and (len(sure) < MIN_SURE or rising < CONCORDANCE * (len(sure) - 1)):
            return Order(False), Order(False)
        return self.source.order, self.target.order

    def _evidence(self, group: Group) -> tuple[str, Pairs]:
        orders = self._orders()
        if pairs := evidence.same_name(group):
            return "the same name", pairs
        if pairs := evidence.same_leaf(group):
            return "the same last word", pairs
        if pairs := evidence.same_role(group, self._roles_like(group.block)):
            return "the same role in other blocks", pairs
        if pairs := same_neighbour(group, self.source.beside, self.target.beside, self._matched):
            return "norms beside matched layers", pairs
        if pairs := evidence.between_anchors(group, orders[0].before, orders[1].before):
            return "order between matched neighbours", pairs
        if pairs := evidence.in_sequence(group, *orders):
            return "numbering", pairs
        if pairs := evidence.same_number(group):
            return "the same numbers", pairs
        if pairs := evidence.same_word(group, *orders):
            return "a word that they alone share", pairs
        if pairs := evidence.first_and_second(group):
            return "words for first and second", pairs
        if self.source.execution and self.target.execution:
            executions = self.source.execution.before, self.target.execution.before
            return "order of execution between matched neighbours", evidence.between_anchors(group, *executions)
        return "", []

    def _roles_like(self, block: Block) -> dict[str, set[str]]:
        """Which role became which, in blocks of the same kind and in those that agree with it on all shared roles."""
        own = self._known.get(block.roles, {})
        merged: dict[str, set[str]] = defaultdict(set)
        for known in self._known.values():
            shared = own.keys() & known.keys()
            if known is own or (shared and all(own[role] == known[role] for role in shared)):
                for role, others in known.items():
                    merged[role] |= others
        return merged

    def _guess(self, group: Group) -> None:
        """Choose without proof: as `choices` says, or in order. All that follows from it is tentative."""
        self.undecided.append(group)
        if not group.even:
            return
        choice = self.choices.get(group.question, range(len(group.targets)))
        block = Block(group.block.source, group.block.target, True, group.block.pairs, group.block.roles)
        for source, place in zip(self._in_order(group.sources, self.source), choice, strict=True):
            self._accept(block, source, self._in_order(group.targets, self.target)[place])

    def _in_order(self, items: Sequence[Item], side: Side) -> list[Item]:
        """As the network runs them, where that is known on both sides; as they stand otherwise."""
        if not (self.source.execution and self.target.execution and side.execution):
            return list(items)
        positions = {item: side.execution.position(item) for item in items}
        return sorted(items, key=lambda item: (positions[item] is None, positions[item] or 0))
