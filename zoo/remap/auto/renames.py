"""The lines of a `rename` rule, from pairs of names: prefixes, placeholders, and an order in which they are exact."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from zoo.remap.auto.templates import Line, Row, lines, literal_lines, numbers
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
    for covered, least in ((moved, 1), (wanted, 1), (wanted, 0)):
        ways = (written for written in _ways(_rows(covered, wanted, least), wanted) if _exact(written, wanted))
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


def _rows(renamed: Mapping[str, str], wanted: Mapping[str, str], least: int) -> Rows:
    """The prefixes that change, of `least` components or more; with 0 those of complete modules."""
    below: dict[str, list[str]] = {}
    for name in wanted:
        components = name.split(".")
        for depth in range(1, len(components)):
            below.setdefault(".".join(components[:depth]), []).append(name)
    together: dict[str, tuple[str, str] | None] = {}
    rows: Rows = {}
    for old in renamed:
        before, after, ending = _prefixes(old, wanted, below, together, least or max(old.count("."), 1))
        same = rows.setdefault(ending, {})
        same[before, after] = same.get((before, after), frozenset()) | {old}
    return rows


def _prefixes(
    old: str,
    wanted: Mapping[str, str],
    below: Mapping[str, Sequence[str]],
    together: dict[str, tuple[str, str] | None],
    least: int,
) -> tuple[str, str, str]:
    """The shortest prefixes of which one becomes the other for every name below, and what stands for the rest.

    The first has `least` components or more. `together` remembers, by prefix, what it becomes and what stands for the
    rest; None where names part ways.
    """
    components = old.split(".")
    for depth in range(least, len(components)):
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
