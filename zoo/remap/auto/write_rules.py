"""Writes the links that were found as rules that a person can read, and runs them to see that they are right."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from zoo.errors import InputError, WorkError
from zoo.formats.entry import Entry
from zoo.remap.auto.leaves import ending as leaf_of
from zoo.remap.auto.links import Link
from zoo.remap.auto.templates import Line, Row, lines, literal_lines
from zoo.remap.auto.tree import Block, blank, numbers
from zoo.remap.auto.units import LEAVES, Shape, split_name
from zoo.remap.rules import parse_rules, run
from zoo.remap.rules.patterns import PLACEHOLDER, Pattern, Renaming

Rows = dict[str, dict[Row, frozenset[str]]]  # by ending: (prefix, what it becomes), and the names below

MAX_REPAIRS = 50  # lines taken apart before giving up on placeholders


@dataclass(frozen=True)
class Rewrite:
    """One line of a `rename` rule. `rows` are the prefixes it stands for, each with the names below it.

    `there` is what the line makes of every old name it matches, `back` what its inverse makes of the new ones;
    `ending` is the placeholder for the rest of the name after the prefix.
    """

    pattern: str
    replacement: str
    ending: str
    rows: Mapping[Row, frozenset[str]]
    there: Mapping[str, str]
    back: Mapping[str, str]
    tight: bool

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset().union(*self.rows.values())

    @cached_property
    def new_names(self) -> frozenset[str]:
        return frozenset(self.there[name] for name in self.names)

    def catches(self, other: Rewrite) -> bool:
        """Whether it matches names that the other line is for, forwards or backwards."""
        return not (other.names.isdisjoint(self.there) and other.new_names.isdisjoint(self.back))


def rename_rule(wanted: Mapping[str, str]) -> dict[str, str] | None:
    """The lines of a `rename` rule that renames as `wanted` says; None where no lines do.

    They can be read backwards too, if possible in one way only, so that `zoo convert --invert` takes them. Names that
    are not in `wanted` (tensors that have no place) may get any name that nothing else has.
    """
    moved = {old: new for old, new in wanted.items() if old != new}
    for covered in (moved, wanted):
        ways = (written for written in _ways(_rows(covered, wanted), wanted) if _exact(written, wanted))
        first = next(ways, None)
        if first is None:
            continue
        second = None if _one_way(first) else next(ways, None)
        best = second if second is not None and _one_way(second) else first
        return {line.pattern: line.replacement for line in best}
    return None


def _ways(rows: Rows, wanted: Mapping[str, str]) -> Iterator[list[Rewrite]]:
    """Lines with placeholders, the same with tight ones, and one line a prefix."""
    for tight in (False, True):
        if (written := _in_order(_generalised(rows, wanted, tight), wanted)) is not None:
            yield written
    yield _literal(rows, wanted)


def pattern_text(text: str) -> str:
    """A template as it is; a plain name as the regular expression for it, since that is how it would be read."""
    return text if PLACEHOLDER.search(text) else f"^{re.escape(text)}$"


def _rows(renamed: Mapping[str, str], wanted: Mapping[str, str]) -> Rows:
    below: dict[str, list[str]] = {}
    for name in wanted:
        components = name.split(".")
        for depth in range(1, len(components)):
            below.setdefault(".".join(components[:depth]), []).append(name)
    together: dict[str, tuple[str, str] | None] = {}
    rows: Rows = {}
    for old in renamed:
        before, after, ending = _prefixes(old, wanted, below, together)
        same = rows.setdefault(ending, {})
        same[before, after] = same.get((before, after), frozenset()) | {old}
    return rows


def _prefixes(
    old: str,
    wanted: Mapping[str, str],
    below: Mapping[str, Sequence[str]],
    together: dict[str, tuple[str, str] | None],
) -> tuple[str, str, str]:
    """The shortest prefixes of which one becomes the other for every name below, and what stands for the rest.

    `together` remembers, by prefix, what it becomes and what stands for the rest; None where names part ways.
    """
    components = old.split(".")
    for depth in range(1, len(components)):
        before = ".".join(components[:depth])
        if before not in together:
            together[before] = _common(before, below[before], wanted)
        if found := together[before]:
            return before, *found
    return old, wanted[old], ""


def _common(before: str, names: Sequence[str], wanted: Mapping[str, str]) -> tuple[str, str] | None:
    """What the prefix becomes for all names below it, and `.{leaf}` or `.{rest*}`."""
    rest = names[0].removeprefix(before)
    after = wanted[names[0]].removesuffix(rest)
    if not after or not all(wanted[name] == after + name.removeprefix(before) for name in names):
        return None
    deep = any("." in name[len(before) + 1 :] for name in names)
    return after, ".{rest*}" if deep else ".{leaf}"


def _generalised(rows: Rows, wanted: Mapping[str, str], tight: bool) -> list[Rewrite]:
    """Lines with placeholders, in the order of the names they are for."""
    places = {name: place for place, name in enumerate(wanted)}
    made = [
        _write(line, ending, same, wanted, tight)
        for ending, same in rows.items()
        for line in lines(list(same), tight=tight)
    ]
    return sorted(made, key=lambda line: min(places[name] for name in line.names))


def _literal(rows: Rows, wanted: Mapping[str, str]) -> list[Rewrite]:
    """A line a prefix, longer prefixes first."""
    made = [_write(line, ending, same, wanted) for ending, same in rows.items() for line in literal_lines(list(same))]
    return sorted(made, key=lambda line: -len(line.pattern))


def _write(
    line: Line, ending: str, names: Mapping[Row, frozenset[str]], wanted: Mapping[str, str], tight: bool = False
) -> Rewrite:
    pattern, replacement = pattern_text(line.texts[0] + ending), line.texts[1] + ending
    renaming = Renaming.parse(pattern, replacement)
    there, back = _results(renaming, wanted), _results(renaming.inverse(), wanted.values())
    return Rewrite(pattern, replacement, ending, {row: names[row] for row in line.rows}, there, back, tight)


def _results(renaming: Renaming, names: Iterable[str]) -> dict[str, str]:
    return {name: new for name in names if (new := renaming.apply(name)) is not None}


def _in_order(written: list[Rewrite], wanted: Mapping[str, str]) -> list[Rewrite] | None:
    """The lines, each before those that would match its names; None where there is no such order.

    Where two lines catch each other's names, all that wait are made tight; if that does not help, one is taken apart.
    """
    waiting, ordered, repairs = list(written), list[Rewrite](), 0
    while waiting:
        free = [line for line in waiting if not any(line.catches(other) for other in waiting if other is not line)]
        if free:
            ordered.append(free[0])
            waiting.remove(free[0])
        elif not all(line.tight for line in waiting):
            waiting = [tighter for line in waiting for tighter in _tightened(line, wanted)]
        elif repairs < MAX_REPAIRS:
            repairs += 1
            waiting = _taken_apart(waiting, wanted)
        else:
            return None
    return ordered


def _tightened(line: Rewrite, wanted: Mapping[str, str]) -> list[Rewrite]:
    return [_write(new, line.ending, line.rows, wanted, tight=True) for new in lines(list(line.rows), tight=True)]


def _taken_apart(waiting: list[Rewrite], wanted: Mapping[str, str]) -> list[Rewrite]:
    """Take the fewest rows that a line loses to another out of it, to stand as lines of their own."""
    losses = [
        (_lost(line, other), line)
        for line in waiting
        for other in waiting
        if other is not line and line.catches(other) and other.catches(line)
    ] or [(list(line.rows), line) for line in waiting if len(line.rows) > 1]
    lost, line = min(losses, key=lambda loss: len(loss[0]))
    rest = [row for row in line.rows if row not in lost]
    new = [*(lines(lost, tight=True) if rest else literal_lines(lost)), *lines(rest, tight=True)]
    made = [_write(each, line.ending, line.rows, wanted, tight=True) for each in new]
    return [*made, *(other for other in waiting if other is not line)]


def _lost(line: Rewrite, other: Rewrite) -> list[Row]:
    """The rows of a line with names that the other one catches."""
    return [
        row
        for row, names in line.rows.items()
        if any(name in other.there or line.there[name] in other.back for name in names)
    ]


def _exact(written: Iterable[Rewrite], wanted: Mapping[str, str]) -> bool:
    """Whether the first line that matches a name makes of it what is wanted, for every name, there and back."""
    there: dict[str, str] = {}
    back: dict[str, str] = {}
    for line in reversed(list(written)):
        there |= line.there
        back |= line.back
    return all(there.get(old, old) == new and back.get(new, new) == old for old, new in wanted.items())


def _one_way(written: Iterable[Rewrite]) -> bool:
    """Whether no new name is matched by two lines read backwards that make different names of it."""
    back: dict[str, str] = {}
    return all(back.setdefault(new, old) == old for line in written for new, old in line.back.items())


def select(names: Sequence[str], others: Collection[str]) -> list[str]:
    """Patterns that match each of `names` and none of `others`."""
    chosen = lines([(name, name) for name in names])
    narrow = [part for line in chosen for part in ([line] if _spares(line, others) else _narrowed(line.rows, others))]
    return [pattern_text(line.texts[0]) for line in narrow]


def _spares(line: Line, others: Collection[str]) -> bool:
    pattern = Pattern.parse(pattern_text(line.texts[0]))
    return not any(pattern.matches(name) for name in others)


def _narrowed(rows: Sequence[Row], others: Collection[str]) -> list[Line]:
    """The fewest lines that come of keeping one of the numbers as it is; a line a name where none will do."""
    best = literal_lines(rows)
    for column in range(len(numbers(rows[0][0]))):
        parts: dict[int, list[Row]] = {}
        for row in rows:
            parts.setdefault(numbers(row[0])[column], []).append(row)
        made = [line for part in parts.values() for line in lines(part)]
        if len(made) < len(best) and all(_spares(line, others) for line in made):
            best = made
    return best


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
