"""The arguments with which an architecture fits a file whose shapes it does not fit: guessed from shapes, then tried.

Only what was tried is told: the network is built anew on `meta` with the arguments, and the load planned again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from zoo.errors import ZooError
from zoo.formats import Source
from zoo.model.build import build
from zoo.model.load_into import target_of
from zoo.remap.plan import MIN_COVERAGE, Plan
from zoo.remap.remaps import Remap, plan_source

_TIMM = {"img_size": "img_size", "in_chans": "in_chans"}
_OTHERS = {"img_size": "image_size", "in_chans": "in_channels"}  # of torchvision and others
_HEAD = re.compile(r"(head|fc|classifier|head\.fc)\.(weight|bias)")
_LAYER = re.compile(r"^(.*?)\.(\d+)\.")


def fitting_arguments(
    architecture: str, arguments: Mapping[str, Any], source: Source, remap: Remap, plan: Plan
) -> dict[str, Any] | None:
    """What else to build `architecture` with, so that `source` fills it; None where no guess does.

    `plan` is the one that falls short for the network as it was built with `arguments`.
    """
    guessed = dict(guesses(plan))
    for names in (_TIMM, _OTHERS) if guessed else ():
        more = {names.get(key, key): value for key, value in guessed.items()}
        try:
            model = build(architecture, {**arguments, **more}, device="meta").model
            again = plan_source(source, remap, target_of(model, ignored=plan.target.ignored if plan.target else ()))
        except ZooError:
            continue
        if not again.plan.problems(MIN_COVERAGE) and not again.plan.mismatched:
            return more
    return None


def guesses(plan: Plan) -> Iterator[tuple[str, Any]]:
    """Arguments, by timm's names, that shapes speak for."""
    target = plan.target
    assert target is not None
    for row in plan.mismatched:
        old, new = row.shape, row.target_shape
        if target.ignores(row.name):
            continue
        if re.search(r"pos_embed|position_embedding", row.name) and (size := _image_size(plan, old, new)):
            yield "img_size", size
        elif "relative_position_bias_table" in row.name and len(old) == 2:
            yield "window_size", (math.isqrt(old[0]) + 1) // 2
        elif len(old) == len(new) == 4 and old[1] != new[1] and (old[0], *old[2:]) == (new[0], *new[2:]):
            yield "in_chans", old[1]
        elif len(old) == len(new) == 2 and old[1:] == new[1:]:
            yield "num_classes", old[0]
    left, missing = plan.leftovers, [name for name in plan.missing_parameters if not target.ignores(name)]
    if (depth := _depth(plan)) is not None:
        yield "depth", depth
    biases = [name for name in (*left, *missing) if f"{name.removesuffix('bias')}weight" in plan.filled]
    if any(name.endswith("qkv.bias") for name in biases):
        yield "qkv_bias", any(name.endswith("qkv.bias") for name in left)
    if any(name.endswith(".ls1.gamma") for name in left):
        yield "init_values", 1e-5
    if "reg_token" in left:
        yield "reg_tokens", left["reg_token"].shape[1]
    odd = {row.name for row in plan.mismatched}
    if missing and all(_HEAD.fullmatch(name) and name not in odd for name in missing):
        yield "num_classes", 0


def _image_size(plan: Plan, old: tuple[int, ...], new: tuple[int, ...]) -> int | None:
    """The side of the images whose square grid of patches has a position table of the shape `old`."""
    assert plan.target is not None
    kernels = [entry.shape for entry in plan.target.entries.values() if len(entry.shape) == 4]
    if len(old) != 3 or not kernels:
        return None
    for prefix in range(6):  # class, distillation and register tokens
        sides = [math.isqrt(max(shape[-2] - prefix, 0)) for shape in (old, new)]
        if [side * side + prefix for side in sides] == [old[-2], new[-2]] and all(sides):
            return sides[0] * kernels[0][-1]
    return None


def _depth(plan: Plan) -> int | None:
    """How many layers the file has where the target has more or fewer of the same kind."""
    assert plan.target is not None
    its = {name: plan.target.entries[name].shape for name in plan.target.entries}
    mine = {move.target for move in plan.moves} | set(plan.leftovers)
    counts: list[set[int]] = []
    for names in (its, mine):
        found = (match for name in names if (match := _LAYER.match(name)) and match[1] in ("blocks", "layers"))
        counts.append({int(match[2]) for match in found})
    return len(counts[1]) if counts[0] and counts[1] and counts[0] != counts[1] else None
