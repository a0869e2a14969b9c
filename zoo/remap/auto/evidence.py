"""Evidence for one pairing among items that roles and shapes cannot distinguish.

Each kind of evidence looks at a group and returns the pairs it is sure of, or none. None of them guesses: where two
answers are possible, or where the evidence contradicts itself, it returns nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise, permutations

from zoo.remap.auto.tree import Before, Group, Item, Order, Pairs, blank, numbers
from zoo.remap.auto.words import comes_first, tokens, words

MAX_PERMUTED = 6  # items whose permutations are gone through one by one
_GENERAL = {
    "norm", "proj", "conv", "fc", "linear", "dense", "out", "output", "layer", "block", "act", "weight", "bias",
    "value", "embed", "attn", "mlp", "head", "final", "stem", "token", "model",
}  # fmt: skip
"""Last words of a name that say too little to distinguish modules of equal shape."""


def same_name(group: Group) -> Pairs:
    """Items of the same path, or of the same path within the block that does not end in a bare number.

    A name that is a number apart from others (`conv3`) counts within a block only where both sides count alike there:
    of two sides that have conv2 and conv3, and conv3 and a shortcut, one counts from 0.
    """
    mine, theirs = (_numbers_by_name(group, of_target) for of_target in (False, True))
    inside = {group.within(item, group.block.target): item for item in group.targets}
    found: Pairs = []
    for item in group.sources:
        name = group.within(item, group.block.source)
        twin = inside.get(name)
        alike = not name.rsplit(".", 1)[-1].isdigit() and mine[blank(name)] == theirs[blank(name)]
        if twin and (twin.path == item.path or alike):
            found.append((item, twin))
    return found


def _numbers_by_name(group: Group, of_target: bool) -> dict[str, set[tuple[int, ...]]]:
    """For each name within the block, numbers left out, those that are there; of the group's items and all others."""
    base = group.block.target if of_target else group.block.source
    names = [group.within(item, base) for item in (group.targets if of_target else group.sources)]
    names += [role[len(blank(base.path)) :].lstrip(".") for role in group.block.roles[of_target]]
    found: dict[str, set[tuple[int, ...]]] = defaultdict(set)
    for name in names:
        found[blank(name)].add(numbers(name))
    return found


def same_leaf(group: Group) -> Pairs:
    """Items whose last components are equal, in a distinctive word (`cls_token`, `grn`), and equal to no other's."""
    mine, theirs = (_by_leaf(items) for items in (group.sources, group.targets))
    counts = [{leaf for leaf in side if any(map(str.isdigit, leaf))} for side in (mine, theirs)]
    return [
        (items[0], theirs[leaf][0])
        for leaf, items in mine.items()
        if len(items) == len(theirs.get(leaf, ())) == 1 and (leaf not in counts[0] or counts[0] == counts[1])
    ]


def _by_leaf(items: Sequence[Item]) -> dict[tuple[str, ...], list[Item]]:
    found: dict[tuple[str, ...], list[Item]] = {}
    for item in items:
        leaf = tuple(tokens(item.path.rpartition(".")[2]))
        if not all(word in _GENERAL or word.isdigit() for word in leaf):
            found.setdefault(leaf, []).append(item)
    return found


def same_role(group: Group, known: Mapping[str, set[str]]) -> Pairs:
    """Items whose roles were found to correspond in other blocks of the same kind; `known` maps roles to roles."""
    targets = {group.block.target_role(item): item for item in group.targets}
    found: Pairs = []
    for item in group.sources:
        roles = known.get(group.block.source_role(item), set())
        found += [(item, targets[role]) for role in roles & targets.keys() if len(roles) == 1]
    return found if len({other for _, other in found}) == len(found) else []


def between_anchors(group: Group, source: Before, target: Before) -> Pairs:
    """Pairs in the same order relative to all that is matched already (the anchors), if there is only one choice."""
    anchors = concordant(group.block.pairs, source, target)
    if not group.even or not anchors:
        return []
    fitting = {
        item: [other for other in group.targets if _same_order(item, other, anchors, source, target)]
        for item in group.sources
    }
    found = [(item, others[0]) for item, others in fitting.items() if len(others) == 1]
    return found if len({other for _, other in found}) == len(group.sources) else []


def in_sequence(group: Group, source: Order, target: Order) -> Pairs:
    """Items that are numbered on both sides, number by number; the order must not contradict it.

    Where an order is lost, the numbers of that side must be consecutive, or of more than two items equally far apart.
    """
    if not group.even or not (_numbered(group.sources) and _numbered(group.targets)):
        return []
    mine, its = (sorted(items, key=lambda item: numbers(item.path)) for items in (group.sources, group.targets))
    for items, order in ((mine, source), (its, target)):
        if order.reliable and any(a.place > b.place for a, b in pairwise(items)):
            return []
        if not order.reliable and not _counted(items):
            return []
    pairs = list(zip(mine, its, strict=True))
    return [] if contradicted(group, pairs, source.before, target.before) else pairs


def same_number(group: Group) -> Pairs:
    """Items that end in a number, where both sides have the same numbers (`slice2.15` and `features.15`)."""
    if not (_numbered(group.sources) and _numbered(group.targets)):
        return []
    mine, theirs = ({item.path.rpartition(".")[2]: item for item in items} for items in (group.sources, group.targets))
    if not (len(mine) == len(group.sources) and mine.keys() == theirs.keys() and all(map(str.isdecimal, mine))):
        return []
    return [(item, theirs[number]) for number, item in mine.items()]


def _numbered(items: Sequence[Item]) -> bool:
    return len({blank(item.path) for item in items}) == 1


def _counted(items: Sequence[Item]) -> bool:
    """Inside something larger, one number counts up from item to item, over more than two in equal steps, else by one;
    others are constant or equal to it."""
    rows = [numbers(item.path) for item in items]
    if any("." not in item.path for item in items):
        return False
    moving = {column for column in zip(*rows, strict=True) if len(set(column)) > 1}
    steps = {b - a for column in moving for a, b in pairwise(column)}
    return len(moving) == 1 and (steps == {1} or (len(steps) == 1 and len(items) > 2))


def same_word(group: Group, source: Order, target: Order) -> Pairs:
    """Items that share a word which none of the others on either side has (`grid` in grid_attention, attn_grid)."""
    if not group.even:
        return []
    mine, theirs = _words(group.sources), _words(group.targets)
    pairs = [(item, other) for item in group.sources for other in group.targets if mine[item] & theirs[other]]
    if len({a for a, _ in pairs}) < len(pairs) or len({b for _, b in pairs}) < len(pairs):
        return []
    left = [item for item in group.sources if item not in {a for a, _ in pairs}]
    spare = [item for item in group.targets if item not in {b for _, b in pairs}]
    if not pairs or len(left) > 1:
        return []
    pairs += zip(left, spare, strict=True)
    return [] if contradicted(group, pairs, source.before, target.before) else pairs


def _words(items: Sequence[Item]) -> dict[Item, set[str]]:
    """The words of each item's path that not all of the items have."""
    found = {item: words(item.path) for item in items}
    common = set.intersection(*found.values())
    return {item: own - common for item, own in found.items()}


def first_and_second(group: Group) -> Pairs:
    """Two items of which the names on both sides say which comes first: before and after, attn and mlp, 1 and 2."""
    if not (len(group.sources) == len(group.targets) == 2):
        return []
    mine, theirs = (comes_first([item.path for item in items]) for items in (group.sources, group.targets))
    if mine is None or theirs is None:
        return []
    return [(group.sources[a], group.targets[b]) for a, b in zip(mine, theirs, strict=True)]


def concordant(pairs: Pairs, source: Before, target: Before) -> Pairs:
    """The pairs in the target's order, if the source has the same order; an empty list otherwise."""
    ordered = sorted(pairs, key=lambda pair: pair[1].place)
    for first, second in pairwise(ordered):
        if source(first[0], second[0]) is False or target(first[1], second[1]) is False:
            return []
    return ordered


def contradicted(group: Group, pairs: Pairs, source: Before, target: Before) -> bool:
    """Whether another pairing would agree better with the order relative to what is matched already."""
    anchors = concordant(group.block.pairs, source, target)
    alike = {(a, b) for a in group.sources for b in group.targets if _same_order(a, b, anchors, source, target)}
    agreeing = sum(pair in alike for pair in pairs)
    if agreeing == len(pairs):
        return False
    if len(pairs) > MAX_PERMUTED:
        return True
    mine = [item for item, _ in pairs]
    others = permutations([other for _, other in pairs])
    return any(sum(pair in alike for pair in zip(mine, choice, strict=True)) > agreeing for choice in others)


def _same_order(item: Item, other: Item, anchors: Pairs, source: Before, target: Before) -> bool:
    """Whether both come before and after the same anchors; an unknown order does not count against it."""
    seen = ((source(item, mine), target(other, its)) for mine, its in anchors)
    return all(one is None or two is None or one == two for one, two in seen)
