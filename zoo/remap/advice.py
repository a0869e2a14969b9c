"""What to type next where a plan falls short: rules, arguments and options that lead on, the likeliest first.

Advice stands in backticks where it is a rule (for `--remap`, or `remap:` in a recipe). Each piece of it is typed by
tests/conversion/test_refusals.py, which then expects that it helps.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from zoo.errors import listed
from zoo.formats.dtypes import FLOATING
from zoo.formats.entry import Entry
from zoo.formats.names import ancestors, pattern
from zoo.remap.leftovers import merge_first
from zoo.remap.networks import filling, how_to_choose
from zoo.remap.plan import Mismatch, Plan, Target, percent

Shapes = Mapping[str, tuple[int, ...]]

MOST = 8  # of the mismatches looked at one by one


def advise(plan: Plan) -> list[str]:
    """Hints for what is missing, unexpected or mismatched, the likeliest first; empty where all fits."""
    if plan.target is None:
        return ["none of the rules applies to this file: leave them out"] if plan.idle else []
    wrong = {mismatch.name for mismatch in plan.mismatched}
    entries = {name: plan.target.entries[name] for name in plan.missing if not plan.target.ignores(name)}
    missing = {name: e.shape for name, e in entries.items() if name not in wrong and e.dtype in FLOATING}
    left = {name: value.shape for name, value in plan.leftovers.items() if value.dtype in FLOATING}
    if several := _several(plan):
        return several
    hints = _prefix(missing, left) or [*_names(plan, missing, left)]
    hints += [*_mismatches(plan)]
    if not missing and not wrong:
        hints += [*_leftovers(plan, left)]
    if not left and not hints:
        hints += [*_lacking(plan, missing)]
    if missing and (adapter := merge_first(left)):
        hints.insert(0, adapter)
    if not hints and plan.idle:
        hints.append("none of the rules applies to this file: leave them out")
    return list(dict.fromkeys(hints))


def _several(plan: Plan) -> list[str]:
    """The file has all of the target more than once."""
    assert plan.target is not None
    values = {move.target: move.value for move in plan.moves} | dict(plan.unexpected)
    prefixes = filling({name: Entry(name, value.dtype, value.shape) for name, value in values.items()}, plan.target)
    if len(prefixes) < 2:
        return []
    where = ", ".join(prefix.rstrip(".") if prefix else "the names as they are" for prefix in prefixes)
    return [f"the file has the network {len(prefixes)} times ({where}); {how_to_choose(prefixes)}"]


def _prefix(missing: Shapes, left: Shapes) -> list[str]:
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
                f"{count:,} names {verb} the prefix {text!r}: add the rule '{rule}' (--remap '{rule}', or remap: in a "
                "recipe)"
            ]
    return []


def _ends(name: str) -> Iterator[int]:
    """Where a prefix of `name` may end: behind each dot."""
    return (place + 1 for place, letter in enumerate(name) if letter == ".")


def _names(plan: Plan, missing: Shapes, left: Shapes) -> Iterator[str]:
    """Other names for the same tensors, parts of what is one tensor on the other side, or another network."""
    assert plan.target is not None
    parts = [*_apart(missing, left), *_shared(plan, missing, left)]
    yield from parts
    yield from _depth(plan, plan.target, missing, left)
    if not parts:
        yield from _same_shapes(missing, left)


_ROLES = tuple(re.compile(rf"(?:^|[._])(?:{name})(?:[._]|_?proj|_?lin|$)") for name in ("q|query", "k|key", "v|value"))


def _apart(missing: Shapes, left: Shapes) -> Iterator[str]:
    """Query, key and value that stand alone on one side and are one tensor on the other."""
    for whole, parts, kind in ((missing, left, "concat"), (left, missing, "split")):
        found: dict[tuple[str, ...], list[str]] = {}
        for name, shape in whole.items():
            if three := _three(name, shape, parts):
                found.setdefault(tuple(_template(each) for each in (name, *three)), []).append(name)
        for (one, *three), names in found.items():
            into = f"{{into: '{one}', from: [{', '.join(map(repr, three))}]}}"
            if kind == "split":
                into = f"{{from: '{one}', into: [{', '.join(map(repr, three))}]}}"
            where = "the file has query, key and value apart" if kind == "concat" else "the file has them in one"
            yield f"{where} ({names[0]!r} and {len(names) - 1} like it): add the rule `{kind}: {into}`"


def _three(whole: str, shape: tuple[int, ...], parts: Shapes) -> list[str] | None:
    """Of the names beside the fused tensor, those of query, key and value that are a third of it each."""
    if not shape or shape[0] % 3:
        return None
    parent, _, leaf = whole.rpartition(".")
    above = parent.rpartition(".")[0]
    third = (shape[0] // 3, *shape[1:])
    beside = [
        name
        for name, its in parts.items()
        if its == third and name.startswith(f"{above}.") and name.endswith(f".{leaf}")
    ]
    found = [[name for name in beside if role.search(name.removeprefix(above))] for role in _ROLES]
    return [names[0] for names in found] if all(len(names) == 1 for names in found) else None


def _template(name: str) -> str:
    """A name with placeholders for its indices, in order: `blocks.{i}.0` has two."""
    letters = iter("ijklmnop")
    return re.sub(r"\*", lambda _: f"{{{next(letters)}}}", pattern(name))


def _shared(plan: Plan, missing: Shapes, left: Shapes) -> Iterator[str]:
    """One tensor of the file that several of the target's would share."""
    kinds: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for name, shape in missing.items():
        kinds.setdefault((pattern(name), shape), []).append(name)
    for (_, shape), names in kinds.items():
        leaf = names[0].rpartition(".")[2]
        alike = [name for name, its in left.items() if its == shape and name.rpartition(".")[2] == leaf]
        if len(names) > 1 and len(alike) == 1:
            pairs = ", ".join(f"{name}: {alike[0]}" for name in names)
            yield f"the file has one {alike[0]} for {len(names)} of the target: add the rule `untie: {{{pairs}}}`"
    tied = [move.target for move in plan.moves if "embed" in move.target and len(move.shape) == 2]
    for name, shape in missing.items():
        same = [other for other in tied if len(shape) == 2 and plan_shape(plan, other) == shape]
        if len(same) == 1:
            yield f"{name} may be {same[0]}, as tied weights are: add the rule `untie: {{{name}: {same[0]}}}`"


def plan_shape(plan: Plan, name: str) -> tuple[int, ...]:
    """The shape of a tensor that is moved."""
    return next(move.shape for move in plan.moves if move.target == name)


def _depth(plan: Plan, target: Target, missing: Shapes, left: Shapes) -> Iterator[str]:
    """More layers on one side than on the other, under names that both know."""
    have = {pattern(name) for name in target.entries if name not in missing}
    more = [name for name in left if pattern(name) in have]
    fewer = [name for name in missing if pattern(name) in have]
    if len(more) > max(len(left) // 2, 3):
        modules = {path for name in plan.filled for path in ancestors(name)}
        paths = dict.fromkeys(_outermost(name, modules) for name in more)
        yield (
            f"the file has more layers than the target ({more[0]!r} is one): it belongs to a deeper network; to leave "
            f"them out all the same add the rule `drop: {_regex(paths, plan.filled, more)}`"
        )
    if len(fewer) > max(len(missing) // 2, 3):
        yield (
            f"the target has more layers than the file ({fewer[0]!r} is one): it belongs to a shallower network; to "
            f"leave these as they are at the start: {_floor(target, missing)}"
        )


def _same_shapes(missing: Shapes, left: Shapes) -> Iterator[str]:
    """Other names for what looks like the same tensors."""
    if not missing or not left:
        return
    common = sum((Counter(missing.values()) & Counter(left.values())).values())
    share = common / max(len(missing), 1)
    if share >= 0.6:
        yield (
            f"{percent(share)} of the missing tensors have the shape of one left over: the names differ, the network "
            "may be the same; try --remap auto, or an installed remap (zoo list --kind remaps)"
        )
    elif share < 0.3 and len(missing) > 3:
        yield (
            "names and shapes have little in common: the file belongs to another architecture (zoo list --kind "
            "architectures)"
        )


def _leftovers(plan: Plan, left: Shapes) -> Iterator[str]:
    """What of the file has no place although all of the target is filled."""
    if not left:
        return
    modules = {path for name in plan.filled for path in ancestors(name)}
    paths = dict.fromkeys(_outermost(name, modules) for name in left)
    inside = [path for path in paths if path in left and path.rpartition(".")[0] in modules - {""}]
    if inside:
        what = f"{listed(inside, 3)} belong to modules that are loaded, so the file may be of another network"
    else:
        what = f"{listed(paths, 3)} {'have' if len(paths) > 1 else 'has'} no place in the target"
    them = "them" if len(paths) > 1 else "it"
    yield f"{what}; to leave {them} out add the rule `drop: {_regex(paths, plan.filled, left)}`"


def _outermost(name: str, modules: set[str]) -> str:
    """The outermost module above `name` that no tensor in use is in, or the name itself."""
    return next((path for path in ancestors(name) if path not in modules), name)


def _regex(paths: Iterable[str], used: Iterable[str], tensors: Iterable[str] = ()) -> str:
    """An expression for modules, and for the paths among `tensors`, that matches none of `used`. Indices that differ
    are left out where that is so."""
    kinds: dict[str, list[str]] = {}
    known, taken = set(tensors), list(used)
    for path in paths:
        end = "$" if path in known else r"\."
        kinds.setdefault(re.escape(pattern(path)).replace(r"\*", r"\d+") + end, []).append(re.escape(path) + end)
    texts: list[str] = []
    for text, exact in kinds.items():
        wide = len(exact) > 1 and not any(re.match(text, name) for name in taken)
        texts += [text] if wide else exact
    return f"^{texts[0]}" if len(texts) == 1 else f"^(?:{'|'.join(texts)})"


def _lacking(plan: Plan, missing: Shapes) -> Iterator[str]:
    """What the file does not have, where nothing of it is left over."""
    assert plan.target is not None
    if not missing or not plan.moves:
        return
    tops = list(dict.fromkeys(name.rpartition(".")[0] or name for name in missing))
    if len(tops) == 1 and all(name.endswith((".weight", ".bias")) for name in missing):
        yield (
            f"the file has no {tops[0]}: if that is the classifier, a network without one takes the rest "
            "(--to-argument num_classes=0), and so does a recipe that replaces it (swap_head)"
        )
    yield f"the file lacks {listed(missing, 3)}; to leave them as they are at the start: {_floor(plan.target, missing)}"


def _floor(target: Target, missing: Iterable[str]) -> str:
    """The floor that lets a load go on without `missing`."""
    sizes = {True: [0, 0], False: [0, 0]}
    for name, entry in target.entries.items():
        row = sizes[target.is_parameter(name)]
        row[0] += entry.elements
        row[1] += entry.elements * (name in set(missing))
    shares = [1 - gone / total for total, gone in sizes.values() if total]
    floor = math.floor(min(shares, default=0.0) * 1000) / 1000
    return f"--min-coverage {floor} (min_coverage in a recipe)"


def _mismatches(plan: Plan) -> Iterator[str]:
    """Per kind of mismatch, the rule that may be meant."""
    rest = list(plan.mismatched)
    turned = [row for row in rest if len(row.shape) == 2 and row.shape == row.target_shape[::-1]]
    if turned:
        yield _turned(plan, turned)
        rest = [row for row in rest if row not in turned]
    if windows := [row for row in rest if "relative_position" in row.name]:
        yield from _windows(windows)
        rest = [row for row in rest if row not in windows]
    if len(rest) > max(MOST, len(plan.moves) // 4):
        row = rest[0]
        yield (
            f"the names agree and {len(rest):,} shapes do not ({row.name}: {list(row.shape)} in the file, "
            f"{list(row.target_shape)} in the target): the file belongs to another size of this network; name that "
            "(--to, or architecture: in a recipe; zoo list shows the sizes)"
        )
        return
    for row in rest:
        for test in _TESTS:
            if hint := test(row, plan):
                yield hint
                break


def _turned(plan: Plan, rows: Sequence[Mismatch]) -> str:
    """Matrices the other way round. Square ones fit either way: they are turned with the others of their leaf, unless
    one of these that is not square fits as it is."""
    names = [row.name for row in rows]
    leaves = {name.rpartition(".")[2] for name in names}
    alike = [move for move in plan.moves if len(move.shape) == 2 and move.target.rpartition(".")[2] in leaves]
    square = [move.target for move in alike if move.shape[0] == move.shape[1]]
    more = ""
    if square and len(square) == len(alike):
        names, more = [*names, *square], f", and {len(square)} square ones that are named like them"
    elif square:
        more = f"; whether {listed(square, 2)} are too, their shapes do not show"
    first = f"{rows[0].name} is" if len(rows) == 1 else f"{len(rows)} matrices ({rows[0].name}, …) are"
    return (
        f"{first} the other way round{more}: add the rule `transpose: {_regex(names, plan.filled - {*names}, names)}`"
    )


def _windows(rows: Sequence[Mismatch]) -> Iterator[str]:
    """Tables of another attention window, and the indices that belong to it."""
    if any("bias_table" in row.name for row in rows):
        yield "another attention window: add the rule `resample_rel_bias: relative_position_bias_table`"
    if index := [row for row in rows if "bias_table" not in row.name]:
        leaf = index[0].name.rpartition(".")[2]
        yield (
            f"{leaf} belongs to the window, and the network computes it: add the rule "
            f"`drop: {{match: {leaf}$, derived: true}}`"
        )


def _positions(row: Mismatch, plan: Plan) -> str | None:
    if "pos_embed" not in row.name and "position_embedding" not in row.name:
        return None
    size = _image_size(row, plan)
    build = f", or build the network for it (--to-argument img_size={size}; arguments: {{img_size: {size}}})"
    rule = f"resample_pos_embed: ^{re.escape(row.name)}$"
    return f"another image or patch size: add the rule `{rule}`{build if size else ''}"


def _image_size(row: Mismatch, plan: Plan) -> int | None:
    """The image size that positions of the file are for, where they are a square grid of known patches."""
    assert plan.target is not None
    patches = [e.shape[-1] for n, e in plan.target.entries.items() if "patch_embed" in n and len(e.shape) == 4]
    if len(patches) != 1 or len(row.shape) != 3 or len(row.target_shape) != 3:
        return None
    before = row.target_shape[1] - math.isqrt(row.target_shape[1]) ** 2
    side = math.isqrt(row.shape[1] - before) if row.shape[1] >= before else 0
    return side * patches[0] if side and side * side + before == row.shape[1] else None


def _reshaped(row: Mismatch, plan: Plan) -> str | None:
    if math.prod(row.shape) == math.prod(row.target_shape):
        to = list(row.target_shape)
        return (
            f"{row.name} has the same elements: add the rule `reshape: {{match: '^{re.escape(row.name)}$', to: {to}}}` "
            "if their order is the same"
        )
    return None


def _channels(row: Mismatch, plan: Plan) -> str | None:
    old, new = row.shape, row.target_shape
    if len(old) == len(new) == 4 and (old[0], *old[2:]) == (new[0], *new[2:]):
        return (
            f"{row.name} takes {old[1]} input channels in the file and {new[1]} in the target: "
            f"add the rule `adapt_input: ^{re.escape(row.name)}$`"
        )
    return None


def _classes(row: Mismatch, plan: Plan) -> str | None:
    old, new = row.shape, row.target_shape
    if len(old) == len(new) and old[1:] == new[1:] and all(size == 1 for size in old[2:]):
        parent = row.name.rpartition(".")[0]
        hint = (
            f"{parent} has {old[0]} outputs in the file and {new[0]} in the target: if it is the classifier, build the "
            f"network with as many (--to-argument num_classes={old[0]}; arguments: {{num_classes: {old[0]}}}), or let "
            "a recipe replace it (swap_head)"
        )
        rule = rf"adapt_classes: ^{re.escape(parent)}\."
        known = plan.target is not None and plan.target.classes
        return f"{hint}, or keep rows by class name with the rule `{rule}`" if known else hint
    return None


_TESTS: tuple[Callable[[Mismatch, Plan], str | None], ...] = (_positions, _reshaped, _channels, _classes)
