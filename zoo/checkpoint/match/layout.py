"""The rules that change tensors: join and cut fused projections, reshape, swap axes, drop what is derived."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from zoo.checkpoint.match.links import Link
from zoo.checkpoint.match.order import blank
from zoo.checkpoint.match.selecting import select
from zoo.checkpoint.match.templates import lines
from zoo.checkpoint.match.units import Shape

RuleMapping = dict[str, Any]


def drop_rules(names: Sequence[str], kept: Collection[str], *, derived: bool) -> list[RuleMapping]:
    """Leave tensors out, whole branches at once; `derived` ones the network computes itself."""
    prefixes = {".".join(name.split(".")[:depth]) for name in kept for depth in range(1, name.count(".") + 1)}
    branches: dict[str, None] = {}
    for name in names:
        components = name.split(".")
        whole = (".".join(components[:depth]) for depth in range(1, len(components)))
        branches[next((f"{prefix}.{{rest*}}" for prefix in whole if prefix not in prefixes), name)] = None
    if not branches:
        return []
    patterns = select(list(branches), set(kept))
    value: Any = patterns if len(patterns) > 1 else patterns[0]
    return [{"drop": {"match": value, "derived": True} if derived else value}]


def join_rules(links: Iterable[Link]) -> list[RuleMapping]:
    """Rules that stand in front of the renames: names are the source's, and so is the name of the whole."""
    rows = [(*link.sources, link.source) for link in links if len(link.sources) > 1]
    return [
        {"concat": {"into": line.texts[-1], "from": list(line.texts[:-1])}}
        for count in sorted({len(row) for row in rows})
        for line in lines([row for row in rows if len(row) == count], given=count - 1)
    ]


def cut_rules(links: Iterable[Link]) -> list[RuleMapping]:
    """Rules that stand behind the renames: names are the target's, and so is the name of the whole."""
    cuts = [link for link in links if len(link.targets) > 1]
    rows = [(link.target, *_pieces(link)) for link in cuts]
    rules: list[RuleMapping] = [
        {"split": {"from": line.texts[0], "into": list(line.texts[1:])}}
        for count in sorted({len(row) for row in rows})
        for line in lines([row for row in rows if len(row) == count])
    ]
    spare = [name for link in cuts for name in set(_pieces(link)) - set(link.targets)]
    return rules + drop_rules(spare, [link.target for link in links], derived=False)


def _pieces(link: Link) -> list[str]:
    """The names of the pieces; a piece without a place is called after the first one."""
    first = str(link.targets[0])
    head, dot, last = first.rpartition(".")
    spare = f"{head}{dot}{'k' + last[1:] if last.startswith('q') else last + '_unused'}"
    return [target or spare for target in link.targets]


def shape_rules(links: Collection[Link]) -> list[RuleMapping]:
    """Rules that stand behind the renames: names are the target's."""
    names = {link.target for link in links}
    kinds: dict[tuple[Any, ...], list[Link]] = {}
    for link in links:
        if link.old_shape != link.shape:
            kind = (blank(link.target), link.turned, len(link.old_shape), len(link.shape))
            kinds.setdefault(kind, []).append(link)
    return [rule for same in kinds.values() for rule in _reshaped(same, names)]


def _reshaped(links: Sequence[Link], names: set[str]) -> Iterator[RuleMapping]:
    old = [link.old_shape[::-1] if link.turned else link.old_shape for link in links]
    new = [link.shape for link in links]
    before, after = _form(old, new), _form(new, old)
    if before.count(-1) > 1 or after.count(-1) > 1:
        for link in links:
            yield from _reshaped([link], names)
        return
    chosen = [link.target for link in links]
    for match in select(chosen, names - {*chosen}):
        if links[0].turned:
            yield {"permute": {"match": match, "axes": [1, 0]}}
        if old != new:
            yield {"reshape": {"match": match, "from": [*before], "to": [*after]}}


def _form(shapes: Sequence[Shape], others: Sequence[Shape]) -> list[int]:
    """The shapes as one: 0 for a size that the other shape has at the same place, -1 for one that varies."""
    form = []
    for axis in range(len(shapes[0])):
        sizes = {shape[axis] for shape in shapes}
        kept = all(
            axis < len(other) and other[axis] == shape[axis] for shape, other in zip(shapes, others, strict=True)
        )
        form.append(0 if kept else sizes.pop() if len(sizes) == 1 else -1)
    return form
