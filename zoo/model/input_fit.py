"""A network for images of another size or other channels than its weights are for.

What the size decides is built anew: position embeddings and tables of relative positions are resampled when the weights
are loaded. What the channels decide is the first convolution, whose kernels are shared out among them. Both are rules,
as a remap has them, so that a checkpoint records what was done. Weights of another patch size or width are other
weights: they are not adapted.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from zoo.contracts import Preprocessing
from zoo.errors import InputError
from zoo.model.assembly import Assembly
from zoo.model.preprocessing import CHANNELS, SIZES
from zoo.remap.plan import Mismatch, Plan
from zoo.remap.remaps import Planned
from zoo.remap.rules import Rule, parse_rules

MOST_PREFIX = 17  # class, distillation and up to sixteen register tokens in front of positions
EXTRA_ROWS = (0, 3)  # of a table of relative positions: BEiT has three for its class token
COMPUTED = ("relative_position_index", "relative_coords_table", "attn_mask")  # buffers that belong to a window
_POSITIONS = re.compile(r"pos_?embed|position_embed|positional_embed")
_DYNAMIC = ("dynamic_img_size", "dynamic_img_pad")  # timm's networks that take any size as they are

Grid = tuple[int, int]


def arguments_for(assembly: Assembly, size: Grid, channels: int) -> dict[str, Any]:
    """With which arguments beside its own to build the network for such images; none where it is for them, or where
    its size does not matter.

    Raises InputError for a size that is no multiple of its patches, and for channels that its builder cannot give it.
    """
    built, now = assembly.arguments, assembly.preprocessing
    known = _parameters(assembly.model) | set(built)
    found: dict[str, Any] = {}
    key = next((name for name in SIZES if name in known), None)
    if size != now.size and key is not None and not any(built.get(name) for name in _DYNAMIC):
        _check_patches(assembly.model, size)
        found[key] = size[0] if size[0] == size[1] else list(size)
    if channels != now.channels:
        key = next((name for name in CHANNELS if name in known), None)
        if key is None:
            message = f"{assembly.architecture} takes {now.channels} channels, and its builder no number of them"
            raise InputError(message, suggestion="put adapt_input: auto in front of the steps")
        found[key] = channels
    return found


def _parameters(model: nn.Module) -> set[str]:
    """What the network's class is built with."""
    return set(inspect.signature(type(model).__init__).parameters)


def _check_patches(model: nn.Module, size: Grid) -> None:
    first = next((layer for layer in model.modules() if isinstance(layer, nn.Conv2d)), None)
    if first is None or first.kernel_size != first.stride:
        return
    patch = [int(side) for side in first.stride]
    if any(side % step for side, step in zip(size, patch, strict=True)):
        below = [max(side // step, 1) * step for side, step in zip(size, patch, strict=True)]
        above = [-(-side // step) * step for side, step in zip(size, patch, strict=True)]
        near = [str(sides[0]) if size[0] == size[1] else str(sides) for sides in (below, above)]
        message = f"image_size {size[0]} x {size[1]} is no multiple of the network's patches of {patch[0]} x {patch[1]}"
        raise InputError(message, suggestion=f"write {' or '.join(dict.fromkeys(near))}")


@dataclass(frozen=True)
class InputFit:
    """What a load may adapt: `model` takes images as `now` says; its weights were for those of `before`, where that is
    known."""

    model: nn.Module
    now: Preprocessing
    before: Preprocessing | None = None

    def fitted(self, planned: Planned, plan: Callable[[Sequence[Rule]], Plan]) -> Planned:
        """`planned`, with rules for what depends on the input and is of another shape; `plan` plans by rules."""
        if planned.plan.target is None or not (found := list(self._rules(planned.plan))):
            return planned
        rules = (*planned.rules, *parse_rules([rule for rule, _ in found]))
        said = tuple(dict.fromkeys(text for _, text in found if text))
        return replace(planned, plan=plan(rules), rules=rules, adapted=(*planned.adapted, *said))

    def _rules(self, plan: Plan) -> Iterator[tuple[dict[str, Any], str]]:
        """Rules, each with what to say of it."""
        assert plan.target is not None
        for row in plan.mismatched:
            if plan.target.ignores(row.name):
                continue
            if row.name.rpartition(".")[2] in COMPUTED:
                yield {"drop": {"match": _only(row), "derived": True}}, ""
            elif "bias_table" in row.name:
                yield from self._bias(row)
            elif _POSITIONS.search(row.name):
                yield from self._positions(row)
            elif len(row.shape) >= 3 and self._is_stem(row):
                yield {"adapt_input": _only(row)}, _shared(row)

    def _is_stem(self, row: Mismatch) -> bool:
        old, new = row.shape, row.target_shape
        return new[1:2] == (self.now.channels,) and (old[0], *old[2:]) == (new[0], *new[2:])

    def _positions(self, row: Mismatch) -> Iterator[tuple[dict[str, Any], str]]:
        old, new = row.shape, row.target_shape
        if len(old) == len(new) == 4 and old[3] == new[3]:
            yield {"resample_pos_embed": _only(row)}, _resampled(row.name, (old[1], old[2]), (new[1], new[2]))
        elif len(old) == len(new) > 1 and old[-1] == new[-1] and (grids := self._grids(old[-2], new[-2])):
            prefix, before, after = grids
            options = {"match": _only(row), "from_grid": list(before), "to_grid": list(after), "prefix_tokens": prefix}
            yield {"resample_pos_embed": options}, _resampled(row.name, before, after)

    def _grids(self, old: int, new: int) -> tuple[int, Grid, Grid] | None:
        """Tokens in front, and the grids of patches of so many tokens before and now: patches of one size, where the
        weights say what images they are for."""
        for prefix in range(MOST_PREFIX):
            before = _grid(old - prefix, self.before.size if self.before else (1, 1))
            after = _grid(new - prefix, self.now.size)
            if (
                before
                and after
                and (self.before is None or self.before.size[0] * after[0] == self.now.size[0] * before[0])
            ):
                return prefix, before, after
        return None

    def _bias(self, row: Mismatch) -> Iterator[tuple[dict[str, Any], str]]:
        old, new = row.shape, row.target_shape
        if len(old) == len(new) == 3 and old[0] == new[0]:
            before, after = (((shape[1] + 1) // 2, (shape[2] + 1) // 2) for shape in (old, new))
            yield {"resample_rel_bias": _only(row)}, _resampled("tables of relative positions", before, after)
            return
        module = self.model.get_submodule(row.name.rpartition(".")[0])
        for extra in EXTRA_ROWS if len(old) == len(new) == 2 and old[1] == new[1] else ():
            was, now = _window(old[0] - extra, None), _window(new[0] - extra, getattr(module, "window_size", None))
            if was and now:
                options = {"match": _only(row), "from_window": list(was), "to_window": list(now)}
                rule = {"resample_rel_bias": options | ({"extra_rows": extra} if extra else {})}
                yield rule, _resampled("tables of relative positions", was, now)
                return


def _grid(tokens: int, size: Grid) -> Grid | None:
    """The grid of so many patches on images of this shape."""
    if tokens < 1:
        return None
    rows = math.isqrt(round(tokens * size[0] / size[1]))
    if rows and tokens % rows == 0 and rows * size[1] == tokens // rows * size[0]:
        return rows, tokens // rows
    return None


def _window(rows: int, said: Any) -> Grid | None:
    """The window with so many offsets: the one that the module says, or a square one."""
    side = (math.isqrt(max(rows, 0)) + 1) // 2
    windows = [tuple(said)] if isinstance(said, tuple | list) and len(said) == 2 else []
    return next((w for w in (*windows, (side, side)) if (2 * w[0] - 1) * (2 * w[1] - 1) == rows), None)


def _only(row: Mismatch) -> str:
    return f"^{re.escape(row.name)}$"


def _resampled(name: str, before: Grid, after: Grid) -> str:
    return f"{name} resampled {before[0]} x {before[1]} -> {after[0]} x {after[1]}"


def _shared(row: Mismatch) -> str:
    old, new = row.shape[1], row.target_shape[1]
    return f"{row.name}: its {old} input channels are {'summed' if new == 1 else f'shared out among {new}'}"
