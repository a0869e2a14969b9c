"""What a plan that falls short suggests: the likely cause and what to type next."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from zoo.checkpoint.grouping import pattern
from zoo.checkpoint.moves import Mismatch, Target
from zoo.checkpoint.plan import Plan, percent

MOST = 8  # of the mismatches looked at one by one


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
            told = "carry" if extra else "lack"
            return [
                f"{count:,} names {told} the prefix {text!r}: add the rule '{rule}' (--remap, or remap: in a recipe)"
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
