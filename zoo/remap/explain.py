"""A plan as text, and hints of what to type next where it falls short."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from zoo.formats.dtypes import BITS
from zoo.formats.names import grouped, pattern, shared, stem_and_leaf, with_leaves
from zoo.remap.expression import Cast
from zoo.remap.plan import Mismatch, Move, Plan, Target, percent

MOST_ROWS = 30  # of moves; of every other list a third


MOST = 8  # of the mismatches looked at one by one


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


def advise(plan: Plan) -> list[str]:
    """Hints for what is missing, unexpected or mismatched, the likeliest first; empty where all fits."""
    if plan.target is None:
        return []
    missing = {name: plan.target.entries[name].shape for name in plan.missing if not plan.target.ignores(name)}
    missing = {name: shape for name, shape in missing.items() if name not in {m.name for m in plan.mismatched}}
    left = {name: value.shape for name, value in plan.unexpected.items() if not plan.target.ignores(name)}
    prefix = _prefix(missing, left)
    hints = prefix or [*_depth(plan.target, missing, left), *_same_shapes(missing, left)]
    return list(dict.fromkeys([*hints, *_mismatches(plan)]))


def _prefix(missing: Mapping[str, tuple[int, ...]], left: Mapping[str, tuple[int, ...]]) -> list[str]:
    """A prefix that most names carry too much, or lack."""
    for names, wanted, extra in ((left, missing, True), (missing, left, False)):
        found = Counter(name[:end] for name in names for end in _ends(name) if wanted.get(name[end:]) == names[name])
        if not found:
            continue
        text, count = found.most_common(1)[0]
        if 2 * count >= min(len(missing), len(left)):
            rule = f"^{re.escape(text)}=" if extra else f"^={text}"
            verb = "carry" if extra else "lack"
            return [
                f"{count:,} names {verb} the prefix {text!r}: add the rule '{rule}' (--remap, or remap: in a recipe)"
            ]
    return []


def _ends(name: str) -> Iterator[int]:
    """Where a prefix of `name` may end: behind each dot."""
    return (place + 1 for place, letter in enumerate(name) if letter == ".")


def _depth(
    target: Target, missing: Mapping[str, tuple[int, ...]], left: Mapping[str, tuple[int, ...]]
) -> Iterator[str]:
    """More layers on one side than on the other, under names that both know."""
    have = {pattern(name) for name in target.entries if name not in missing}
    more = [name for name in left if pattern(name) in have]
    fewer = [name for name in missing if pattern(name) in have]
    if len(more) > max(len(left) // 2, 3):
        yield f"the file has more layers than the target ({more[0]!r} is one): it belongs to a deeper network"
    if len(fewer) > max(len(missing) // 2, 3):
        yield f"the target has more layers than the file ({fewer[0]!r} is one): it belongs to a shallower network"


def _same_shapes(missing: Mapping[str, tuple[int, ...]], left: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    """Other names for what looks like the same tensors."""
    if not missing or not left:
        return
    common = sum((Counter(missing.values()) & Counter(left.values())).values())
    share = common / max(len(missing), 1)
    if share >= 0.6:
        yield (
            f"{percent(share)} of the missing tensors have the shape of one left over: the names differ, the network "
            "may be the same; try the remap auto, or an installed one (zoo list --kind remaps)"
        )
    elif share < 0.3 and len(missing) > 3:
        yield "names and shapes have little in common: the file belongs to another architecture"


def _mismatches(plan: Plan) -> Iterator[str]:
    """Per kind of mismatch, the rule that may be meant."""
    if len(plan.mismatched) > max(MOST, len(plan.moves) // 4):
        row = plan.mismatched[0]
        yield (
            f"the names agree and {len(plan.mismatched):,} shapes do not ({row.name}: {list(row.shape)} in the file, "
            f"{list(row.target_shape)} in the target): the file belongs to another size of this network"
        )
        return
    for row in plan.mismatched:
        for test in _TESTS:
            if hint := test(row):
                yield hint
                break


def _positions(row: Mismatch) -> str | None:
    if "pos_embed" in row.name or "position_embedding" in row.name:
        return f"another image or patch size: add the rule `resample_pos_embed: ^{re.escape(row.name)}$`"
    return None


def _bias_table(row: Mismatch) -> str | None:
    if "relative_position_bias_table" in row.name:
        return "another attention window: add the rule `resample_rel_bias: relative_position_bias_table`"
    return None


def _reshaped(row: Mismatch) -> str | None:
    if row.shape == row.target_shape[::-1] and len(row.shape) == 2:
        return f"{row.name} is the other way round: add the rule `transpose: ^{re.escape(row.name)}$`"
    if math.prod(row.shape) == math.prod(row.target_shape):
        to = list(row.target_shape)
        return (
            f"{row.name} has the same elements: add the rule `reshape: {{match: '^{re.escape(row.name)}$', to: {to}}}` "
            "if their order is the same"
        )
    return None


def _channels(row: Mismatch) -> str | None:
    old, new = row.shape, row.target_shape
    if len(old) == len(new) == 4 and (old[0], *old[2:]) == (new[0], *new[2:]):
        return (
            f"{row.name} takes {old[1]} input channels in the file and {new[1]} in the target: "
            f"add the rule `adapt_input: ^{re.escape(row.name)}$`"
        )
    return None


def _classes(row: Mismatch) -> str | None:
    old, new = row.shape, row.target_shape
    linear = len(old) == 2 or (len(old) == 4 and old[2:] == (1, 1))
    if linear and len(old) == len(new) and old[1:] == new[1:]:
        parent = row.name.rpartition(".")[0]
        return (
            f"{parent} has {old[0]} outputs in the file and {new[0]} in the target: if it is the classifier, add "
            f"the rule `drop: ^{re.escape(parent)}\\.` to train a new one, or `adapt_classes` to keep rows by name"
        )
    return None


_TESTS: tuple[Callable[[Mismatch], str | None], ...] = (_positions, _bias_table, _reshaped, _channels, _classes)
