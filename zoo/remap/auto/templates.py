"""Many renames as few lines: numbers that change together become placeholders (`blocks.{i}`, `features.{2*i+1}`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

Row = tuple[str, ...]  # names that belong together: the source's, then what they become
Column = tuple[int, ...]  # one number of the names, over the rows
MIN_VALUES = 3  # values it takes to believe that one number follows from another and does not just happen to
LETTERS = "ijklmnopqrstuvwxyz"
_NUMBER = re.compile(r"(?<!\d)(?:0|[1-9]\d*)(?!\d)")  # a placeholder stands for none with zeros in front


def blank(name: str) -> str:
    """The name with every number that a placeholder can stand for replaced by `#`."""
    return _NUMBER.sub("#", name)


def numbers(name: str) -> Column:
    return tuple(int(digits) for digits in _NUMBER.findall(name))


@dataclass(frozen=True)
class Line:
    """Templates for the names of a row, and the rows that they cover."""

    texts: Row
    rows: tuple[Row, ...]


def lines(rows: Sequence[Row], given: int = 1, tight: bool = False) -> list[Line]:
    """The fewest lines that cover all rows. The first `given` names of a row are the source's.

    Numbers that differ between the rows of a line follow from each other: equal, shifted, or (over at least three
    values) a multiple. None of the given names' numbers gets lost, so that a line can be read both ways. `tight` lines
    match no smaller numbers than those of their rows (`{i+4}` from 4 on).
    """
    clusters: dict[Row, list[Row]] = {}
    for row in rows:
        clusters.setdefault(tuple(blank(name) for name in row), []).append(row)
    return [line for cluster in clusters.values() for line in _cover(cluster, given, tight)]


def literal_lines(rows: Sequence[Row]) -> list[Line]:
    """One line a row, without placeholders."""
    return [Line(row, (row,)) for row in rows]


def _cover(cluster: list[Row], given: int, tight: bool) -> list[Line]:
    """The fewest lines for rows that differ in numbers only, split by some of the numbers where one does not do."""
    columns = list(zip(*map(_columns, cluster), strict=True))
    varying = [index for index, column in enumerate(columns) if _varies(column)]
    best = literal_lines(cluster)
    for fixed in (fixed for count in range(len(varying)) for fixed in combinations(varying, count)):
        parts: dict[tuple[int, ...], list[Row]] = {}
        for place, row in enumerate(cluster):
            parts.setdefault(tuple(columns[index][place] for index in fixed), []).append(row)
        if len(parts) < len(best):
            made = [_line(part, given, tight) for part in parts.values()]
            best = best if None in made else [line for line in made if line is not None]
    return best


def _columns(names: Sequence[str]) -> tuple[int, ...]:
    return tuple(number for name in names for number in numbers(name))


def _line(rows: Sequence[Row], given: int, tight: bool) -> Line | None:
    """One line for all rows, or None where numbers do not follow from each other."""
    columns: list[Column] = list(zip(*map(_columns, rows), strict=True))
    known = columns[: len(_columns(rows[0][:given]))]
    wanted = columns[len(known) :]
    variables: list[Column] = []
    spent: set[Column] = set()
    for column in filter(_varies, wanted):
        source = _source(column, known, spent)
        if source is None:
            return None
        spent.add(source)
        base = _base(source, column)
        if all(_affine(variable, column) is None for variable in variables):
            variables.append(_from_zero(base) if tight else base)
    texts = [_spell(column, variables) for column in columns]
    if None in texts or len(variables) > len(LETTERS):
        return None
    return Line(_fill(rows[0], [str(text) for text in texts]), tuple(rows))


def _source(column: Column, known: Sequence[Column], spent: set[Column]) -> Column | None:
    """The number that `column` follows from; one that another follows from already only where that is no accident."""
    if column in known:
        return column
    sure = len(set(column)) >= MIN_VALUES
    found = (other for other in known if _varies(other) and _follows(column, other) and (sure or other not in spent))
    return next(found, None)


def _varies(column: Column) -> bool:
    return len(set(column)) > 1


def _follows(one: Column, other: Column) -> bool:
    return _affine(one, other) is not None or _affine(other, one) is not None


def _base(one: Column, other: Column) -> Column:
    """Of two columns of which one follows from the other: the one that counts from lower, or by ones."""
    found = _affine(other, one)
    return other if found is not None and (found[0] > 1 or found[1] >= 0) else one


def _from_zero(column: Column) -> Column:
    low = min(column)
    return tuple(number - low for number in column)


def _affine(variable: Column, column: Column) -> tuple[int, int] | None:
    """(multiplier, offset) with column = multiplier * variable + offset, multiplier a positive integer."""
    low, high = min(variable), max(variable)
    first, last = column[variable.index(low)], column[variable.index(high)]
    if high == low or (last - first) % (high - low) or last <= first:
        return None
    multiplier = (last - first) // (high - low)
    if multiplier > 1 and len(set(variable)) < MIN_VALUES:
        return None
    offset = first - multiplier * low
    fits = all(value == multiplier * known + offset for known, value in zip(variable, column, strict=True))
    return (multiplier, offset) if fits else None


def _spell(column: Column, variables: Sequence[Column]) -> str | None:
    """A constant number, or the placeholder in terms of the variable that the column follows from."""
    if not _varies(column):
        return str(column[0])
    found = ((letter, _affine(variable, column)) for letter, variable in zip(LETTERS, variables, strict=False))
    return next((_placeholder(letter, *relation) for letter, relation in found if relation), None)


def _placeholder(letter: str, multiplier: int, offset: int) -> str:
    times = f"{multiplier}*" if multiplier > 1 else ""
    return f"{{{times}{letter}" + (f"{offset:+d}" if offset else "") + "}"


def _fill(row: Row, texts: Sequence[str]) -> Row:
    """The names with their numbers replaced by `texts`, one after the other."""
    pieces = iter(texts)
    return tuple(_NUMBER.sub(lambda _: next(pieces), name) for name in row)
