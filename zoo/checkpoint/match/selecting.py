"""Few patterns that choose some names and no others."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from zoo.checkpoint.match.order import numbers
from zoo.checkpoint.match.renaming import pattern_text
from zoo.checkpoint.match.templates import Line, Row, lines, literal_lines
from zoo.checkpoint.rules.patterns import Pattern


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
