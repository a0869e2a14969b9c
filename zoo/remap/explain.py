"""A plan as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from zoo.formats.dtypes import BITS
from zoo.formats.names import grouped, pattern, shared, stem_and_leaf, with_leaves
from zoo.remap.expression import Cast
from zoo.remap.plan import Move, Plan, percent

MOST_ROWS = 30  # of moves; of every other list a third


def render(plan: Plan, *, verbose: bool = False) -> str:
    """The plan as lines. `verbose` names every tensor instead of grouping them by pattern."""
    return "\n".join([*_totals(plan), *_moves(plan, verbose), *_rest(plan, verbose)])


def _totals(plan: Plan) -> Iterator[str]:
    copied = sum(move.spans() is not None for move in plan.moves)
    size = sum(move.value.elements * BITS[move.dtype] // 8 for move in plan.moves)
    made = len(plan.moves) - copied
    yield f"moves       {len(plan.moves):,} tensors, {size / 1e6:,.1f} MB: {copied:,} copied, {made:,} made anew"
    if plan.target is not None:
        counted = plan.counted(parameters=True)
        filled = sum(count for name, count in counted.items() if name in plan.filled)
        elements = f"{filled:,} of {sum(counted.values()):,} elements"
        yield f"coverage    {percent(plan.coverage or 0)} of the parameters ({elements})"
        yield f"buffers     {percent(plan.buffer_coverage or 0)}"
        yield f"use         {percent(plan.use)} of the file"


def _moves(plan: Plan, verbose: bool) -> Iterator[str]:
    kept = [_keeps_name(move) for move in plan.moves]
    same = [move for move, keeps in zip(plan.moves, kept, strict=True) if keeps]
    moves = plan.moves if verbose else [move for move, keeps in zip(plan.moves, kept, strict=True) if not keeps]
    rows = [_row(move) for move in moves] if verbose else list(_patterns(moves))
    if same and not verbose:
        cast = sum(bool(move.operations) for move in same)
        yield f"  {len(same):,} names stay as they are" + (f", {cast:,} of the tensors are cast" if cast else "")
    yield from _table(rows, len(rows) if verbose else MOST_ROWS)
    yield from (f"  {alias} = {name} (tied)" for alias, name in plan.ties.items())


def _keeps_name(move: Move) -> bool:
    """Whether the tensor keeps its name, and is at most cast."""
    if move.value.source is not None:
        return move.value.source == move.target
    return move.sources == (move.target,) and all(isinstance(operation, Cast) for operation in move.operations)


def _row(move: Move) -> tuple[str, str, str]:
    operations = ", ".join(map(str, move.operations))
    return " + ".join(move.sources), move.target, operations


def _patterns(moves: Iterable[Move]) -> Iterator[tuple[str, str, str]]:
    """One row for all moves alike but for indices and leaves: from, to, what is done and how often."""
    groups: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    leaves: dict[tuple[str, ...], list[str]] = {}
    for move in moves:
        names = (move.target, *move.sources)
        stems, found = zip(*(stem_and_leaf(name) for name in names), strict=True)
        leaf = found[0] if len(set(found)) == 1 else ""
        stems = stems if leaf else names
        operations = ", ".join(type(operation).__name__.lower() for operation in move.operations)
        key = (operations, *map(pattern, stems))
        groups.setdefault(key, []).append(stems)
        leaves.setdefault(key, []).append(leaf)
    for key, rows in groups.items():
        ends = dict.fromkeys(leaves[key])
        target, *sources = (with_leaves(shared(column), ends) for column in zip(*rows, strict=True))
        count = f"{len(rows)}×" if len(rows) > 1 else ""
        yield " + ".join(sources), target, f"{key[0]} {count}".strip()


def _table(rows: list[tuple[str, str, str]], most: int) -> Iterator[str]:
    left = min(max((len(row[0]) for row in rows[:most]), default=0), 60)
    right = min(max((len(row[1]) for row in rows[:most]), default=0), 60)
    lines = [f"  {source:<{left}} → {target:<{right}}  {detail}".rstrip() for source, target, detail in rows]
    yield from _first(lines, most, " patterns")


def _first(lines: Sequence[str], most: int, what: str = "") -> Iterator[str]:
    yield from lines[:most]
    if len(lines) > most:
        yield f"  … and {len(lines) - most:,} more{what} (--verbose shows all)"


def _rest(plan: Plan, verbose: bool) -> Iterator[str]:
    yield from _list("missing", plan.missing_parameters, verbose, "parameters")
    yield from _list("missing", plan.missing_buffers, verbose, "buffers")
    yield from _list("unexpected", plan.unexpected, verbose, "tensors of the file")
    if plan.mismatched:
        yield f"mismatched  {len(plan.mismatched):,} tensors"
        lines = [
            f"  {row.name}  {list(row.shape)} in the file, {list(row.target_shape)} in the target"
            for row in plan.mismatched
        ]
        yield from _first(lines, len(lines) if verbose else MOST_ROWS // 3)
    yield from _list("dropped", plan.dropped, verbose, "tensors of the file")
    yield from (f"initialised {name}: {text}" for name, text in plan.initialised.items())


def _list(title: str, names: Iterable[str], verbose: bool, what: str) -> Iterator[str]:
    groups = {name: [name] for name in names} if verbose else grouped(names)
    if not groups:
        return
    yield f"{title:<11} {sum(map(len, groups.values())):,} {what}"
    lines = [f"  {text}" + (f"  {len(members)}×" if len(members) > 1 else "") for text, members in groups.items()]
    yield from _first(lines, len(lines) if verbose else MOST_ROWS // 3, " patterns")
