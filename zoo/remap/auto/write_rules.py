"""Writes the links that were found as rules that a person can read, and runs them to see that they are right."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from zoo.errors import InputError, WorkError
from zoo.formats.entry import Entry
from zoo.remap.auto.leaves import ending as leaf_of
from zoo.remap.auto.links import Link
from zoo.remap.auto.renames import rename_rule, select
from zoo.remap.auto.templates import Row, blank, lines
from zoo.remap.auto.tree import Block
from zoo.remap.auto.units import LEAVES, Shape, split_name
from zoo.remap.rules import parse_rules, run

RuleMapping = dict[str, Any]


def drop_rules(names: Sequence[str], kept: Collection[str], *, derived: bool) -> list[RuleMapping]:
    """Rules that drop tensors, complete branches at once; `derived` ones the network computes itself."""
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
    """`concat` rules, to run before the renames: all names are the source's."""
    joined = [(link.sizes, (*link.sources, link.source)) for link in links if len(link.sources) > 1]
    return [
        {"concat": {"into": line.texts[-1], "from": list(line.texts[:-1]), **_sized(sizes)}}
        for sizes, rows in _alike(joined)
        for line in lines(rows, given=len(rows[0]) - 1)
    ]


def cut_rules(links: Iterable[Link]) -> list[RuleMapping]:
    """`split` rules, to run after the renames: all names are the target's."""
    cuts = [link for link in links if len(link.targets) > 1]
    rules: list[RuleMapping] = [
        {"split": {"from": line.texts[0], "into": list(line.texts[1:]), **_sized(sizes)}}
        for sizes, rows in _alike([(link.sizes, (link.target, *_pieces(link))) for link in cuts])
        for line in lines(rows)
    ]
    spare = [name for link in cuts for name in set(_pieces(link)) - set(link.targets)]
    return rules + drop_rules(spare, [link.target for link in links], derived=False)


Sizes = tuple[int, ...] | None


def _alike(rows: Iterable[tuple[Sizes, Row]]) -> Iterator[tuple[Sizes, list[Row]]]:
    """The rows of equally many names and of parts of equal sizes, together."""
    found: dict[tuple[int, Sizes], list[Row]] = {}
    for sizes, row in rows:
        found.setdefault((len(row), sizes), []).append(row)
    yield from ((sizes, same) for (_, sizes), same in found.items())


def _sized(sizes: Sizes) -> dict[str, list[int]]:
    return {} if sizes is None else {"sizes": list(sizes)}


def _pieces(link: Link) -> list[str]:
    """The names of the pieces; a piece without a place is called after the first one."""
    first = str(link.targets[0])
    head, dot, last = first.rpartition(".")
    spare = f"{head}{dot}{'k' + last[1:] if last.startswith('q') else last + '_unused'}"
    return [target or spare for target in link.targets]


def shape_rules(links: Collection[Link]) -> list[RuleMapping]:
    """`permute` and `reshape` rules, to run after the renames: all names are the target's."""
    names = {link.target for link in links}
    kinds: dict[tuple[Any, ...], list[Link]] = {}
    for link in links:
        if link.old_shape != link.shape or link.axes:
            kind = (blank(link.target), link.axes, len(link.old_shape), len(link.shape))
            kinds.setdefault(kind, []).append(link)
    return [rule for same in kinds.values() for rule in _reshaped(same, names)]


def _reshaped(links: Sequence[Link], names: set[str]) -> Iterator[RuleMapping]:
    old = [_permuted(link) for link in links]
    new = [link.shape for link in links]
    before, after = _form(old, new), _form(new, old)
    if before.count(-1) > 1 or after.count(-1) > 1:
        for link in links:
            yield from _reshaped([link], names)
        return
    chosen = [link.target for link in links]
    for match in select(chosen, names - {*chosen}):
        if links[0].axes:
            yield {"permute": {"match": match, "axes": list(links[0].axes)}}
        if old != new:
            yield {"reshape": {"match": match, "from": [*before], "to": [*after]}}


def _permuted(link: Link) -> Shape:
    return tuple(link.old_shape[axis] for axis in link.axes) if link.axes else link.old_shape


_UNFOLDED: dict[int, list[RuleMapping]] = {
    1: [
        {"reshape": {"from": [-1], "to": [-1, 2, 2]}},
        {"permute": {"axes": [2, 1, 0]}},
        {"reshape": {"from": [2, 2, -1], "to": [-1]}},
    ],
    2: [
        {"reshape": {"from": [0, -1], "to": [0, -1, 2, 2]}},
        {"permute": {"axes": [0, 3, 2, 1]}},
        {"reshape": {"from": [0, 2, 2, -1], "to": [0, -1]}},
    ],
}
"""From nn.Unfold's order, [..., channels, rows, columns], to that of slices, [..., columns, rows, channels]."""


def order_rules(links: Collection[Link]) -> list[RuleMapping]:
    """Rules that put the values of patch merging into the target's order, to run after the renames."""
    names = {link.target for link in links}
    kinds: dict[tuple[str, int, str], list[str]] = {}
    for link in links:
        if link.order:
            kinds.setdefault((link.order, len(link.shape), blank(link.target)), []).append(link.target)
    return [
        {kind: {"match": match, **parts}}
        for (order, axes, _), chosen in kinds.items()
        for match in select(chosen, names - {*chosen})
        for rule in _reordered(order, axes)
        for kind, parts in rule.items()
    ]


def _reordered(order: str, axes: int) -> list[RuleMapping]:
    rules = _UNFOLDED[axes]
    if order == "unfold to slices":
        return rules
    return [
        {kind: {**parts, "from": parts["to"], "to": parts["from"]} if kind == "reshape" else parts}
        for rule in reversed(rules)
        for kind, parts in rule.items()
    ]


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


FEW = 16  # lines of a program short enough to look no further
TRIES = 3  # ways to write a long one after which the shortest is taken


def write_rules(
    links: Sequence[Link],
    source: Mapping[str, Entry],
    target: Mapping[str, Entry],
    blocks: Sequence[Block],
    dropped: Sequence[str] = (),
    resized: Sequence[Link] = (),
) -> list[RuleMapping]:
    """The shortest rules found that make exactly these links of a source with these entries.

    `dropped` are names that have no place; integer tensors among them (index tables) are called derived. What is
    neither linked nor dropped stays unexpected. `resized` links are renamed only: their shapes differ. Raises WorkError
    where no program could be written.
    """
    tables = [name for name in dropped if split_name(name)[1] == "value" and source[name].dtype[0] in "IUB"]
    others = [name for name in dropped if name not in set(tables)]
    before = [
        *drop_rules(tables, source.keys() - {*tables}, derived=True),
        *drop_rules(others, source.keys() - {*dropped}, derived=False),
        *join_rules(links),
    ]
    copies = {link.source: link.target for link in reversed(links)}
    whole = {link.source: link.target for link in links if copies[link.source] == link.target}
    whole |= {link.source: link.target for link in resized}
    again = {link.target: copies[link.source] for link in links if copies[link.source] != link.target}
    once = [link for link in links if link.target not in again]
    after = [*shape_rules(once), *order_rules(once), *cut_rules(once), *([{"untie": again}] if again else [])]
    best: list[RuleMapping] | None = None
    for tries, renames in enumerate(_renames(whole, blocks)):
        rules = [*before, *renames, *after]
        if (best is None or _size(rules) < _size(best)) and _makes(rules, links, source, target):
            best = rules
        if best is not None and (_size(best) <= FEW or tries > TRIES):
            break
    if best is None:
        raise WorkError(f"the {len(links)} links that were found could not be written as rules")
    return best


def _size(rules: Sequence[RuleMapping]) -> int:
    return sum(len(rule["rename"]) if "rename" in rule else 1 for rule in rules)


def _renames(whole: Mapping[str, str], blocks: Sequence[Block]) -> Iterator[list[RuleMapping]]:
    """Ways to write the renames: at once, modules first and then their leaves, blocks first and then what is inside."""
    leaves = {old: _with_leaf_of(old, new) for old, new in whole.items()}
    if len(set(leaves.values())) == len(leaves) and leaves != whole:
        made = list(_steps([leaves, {leaves[old]: new for old, new in whole.items()}]))
        if made:
            yield from made
            return
    yield from _steps([whole])
    for kind in dict.fromkeys(blank(block.target.path) for block in blocks):
        bases = {b.source.path: b.target.path for b in blocks if b.target.path and blank(b.target.path) == kind}
        if len(bases) < 2:
            continue
        halfway = {old: _inside(old, bases) or new for old, new in whole.items()}
        if len(set(halfway.values())) == len(halfway):
            yield from _steps([halfway, {halfway[old]: new for old, new in whole.items()}])


def _with_leaf_of(old: str, new: str) -> str:
    """The new name, but for the leaf, where the old one is another of the words for it (`gamma`)."""
    head, _, leaf = new.rpartition(".")
    other = leaf_of(old)
    return f"{head}.{other}" if head and leaf in LEAVES and other != leaf else new


def _inside(name: str, bases: Mapping[str, str]) -> str | None:
    """The name with its block renamed, or None where it is in no block."""
    base = next((base for base in bases if name.startswith(f"{base}.")), None)
    return None if base is None else bases[base] + name.removeprefix(base)


def _steps(steps: Sequence[Mapping[str, str]]) -> Iterator[list[RuleMapping]]:
    written = [rename_rule(step) for step in steps]
    if all(lines is not None for lines in written):
        yield [{"rename": lines} for lines in written if lines]


def _makes(
    rules: Sequence[RuleMapping], links: Sequence[Link], source: Mapping[str, Entry], target: Mapping[str, Entry]
) -> bool:
    """Whether the rules, run on the source's entries, make every link and fill nothing else of the target."""
    try:
        made = run(parse_rules(list(rules)), source).values
    except InputError:
        return False
    wanted = {name: link.sources for link in links for name in link.targets if name}
    shapes = {name: tuple(entry.shape) for name, entry in target.items()}
    filled = {name: value for name, value in made.items() if shapes.get(name) == value.shape}
    return filled.keys() == wanted.keys() and all(value.sources == wanted[name] for name, value in filled.items())
