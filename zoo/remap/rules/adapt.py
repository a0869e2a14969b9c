"""Rules that compute new values: resample_pos_embed, resample_rel_bias, adapt_input, adapt_classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from zoo.errors import InputError, Location, did_you_mean, listed
from zoo.remap.expression import Expression, Operation, ShapeError
from zoo.remap.resample import AdaptClasses, AdaptInput, ResampleBias, ResamplePositions, offsets
from zoo.remap.rules import values
from zoo.remap.rules.base import EachMatch, Rule, State, given, matching
from zoo.remap.rules.patterns import InversionError, Pattern

Grid = tuple[int, int]


class _Adapting(EachMatch):
    """Computes each tensor that `match` chooses for the shape of the target's tensor of that name."""

    def inverse(self) -> list[Rule]:
        raise InversionError("the values it computes do not say what the old ones were")


@dataclass(frozen=True)
class ResamplePosEmbed(_Adapting):
    """Resample a learned grid of position embeddings to another size, square or not."""

    kind: ClassVar[str] = "resample_pos_embed"
    from_grid: Grid | None = None
    to_grid: Grid | None = None
    prefix_tokens: int | None = None
    interpolation: str = "bicubic"
    antialias: bool = True

    @classmethod
    def parse(cls, value: Any, location: Location | None) -> ResamplePosEmbed:
        optional = ["from_grid", "to_grid", "prefix_tokens", "interpolation", "antialias"]
        parts = values.options(value, "match", ["match"], optional)
        modes = ("bicubic", "bilinear", "nearest")
        return cls(
            values.pattern(parts["match"], "match"),
            values.grid(parts["from_grid"], "from_grid") if "from_grid" in parts else None,
            values.grid(parts["to_grid"], "to_grid") if "to_grid" in parts else None,
            values.integer(parts["prefix_tokens"], "prefix_tokens") if "prefix_tokens" in parts else None,
            values.choice(parts.get("interpolation", "bicubic"), "interpolation", modes),
            values.boolean(parts.get("antialias", True), "antialias"),
            location=location,
        )

    def operation(self, value: Expression, target: tuple[int, ...] | None = None) -> Operation | None:
        if len(value.shape) == 4:
            old, new, prefix = value.shape[1:3], self.to_grid or _spatial(target), 0
            return self._resample((old[0], old[1]), new, prefix)
        if len(value.shape) not in (2, 3):
            raise ShapeError(f"the shape {list(value.shape)} is no grid of positions")
        tokens = value.shape[-2]
        prefix = self._prefix(tokens)
        old = self.from_grid or _square(tokens - prefix, "from_grid")
        return self._resample(old, self.to_grid or self._target_grid(old, tokens, prefix, target), prefix)

    def _resample(self, old: Grid, new: Grid, prefix: int) -> Operation | None:
        if old == new:
            return None
        return ResamplePositions(old, new, prefix, self.interpolation, self.antialias)

    def _prefix(self, tokens: int) -> int:
        if self.prefix_tokens is not None:
            return self.prefix_tokens
        if self.from_grid is not None:
            return tokens - math.prod(self.from_grid)
        for prefix in (0, 1):
            if math.isqrt(tokens - prefix) ** 2 == tokens - prefix:
                return prefix
        raise ShapeError(f"its {tokens} tokens are no square with 0 or 1 in front; say `prefix_tokens` or `from_grid`")

    def _target_grid(self, old: Grid, tokens: int, prefix: int, target: tuple[int, ...] | None) -> Grid:
        if target is None or len(target) < 2:
            raise ShapeError("it is not known what grid to resample to; say `to_grid: [height, width]`")
        if target[-2] == tokens and old[0] != old[1]:
            raise ShapeError(f"the target's {tokens - prefix} positions may be another grid; say `to_grid`")
        return _square(target[-2] - prefix, "to_grid")

    def value(self) -> Any:
        parts = given(
            match=str(self.match),
            from_grid=self.from_grid,
            to_grid=self.to_grid,
            prefix_tokens=self.prefix_tokens,
            interpolation=None if self.interpolation == "bicubic" else self.interpolation,
            antialias=None if self.antialias else False,
        )
        return parts if len(parts) > 1 else str(self.match)


def _square(positions: int, key: str) -> Grid:
    side = math.isqrt(max(positions, 0))
    if side * side != positions or positions < 1:
        raise ShapeError(f"{positions} positions are no square grid; say `{key}: [height, width]`")
    return side, side


def _spatial(target: tuple[int, ...] | None) -> Grid:
    if target is None or len(target) != 4:
        raise ShapeError("it is not known what grid to resample to; say `to_grid: [height, width]`")
    return target[1], target[2]


@dataclass(frozen=True)
class ResampleRelBias(_Adapting):
    """Resample a table of relative position biases (Swin, BEiT) to another attention window."""

    kind: ClassVar[str] = "resample_rel_bias"
    from_window: Grid | None = None
    to_window: Grid | None = None
    extra_rows: int = 0

    @classmethod
    def parse(cls, value: Any, location: Location | None) -> ResampleRelBias:
        parts = values.options(value, "match", ["match"], ["from_window", "to_window", "extra_rows"])
        return cls(
            values.pattern(parts["match"], "match"),
            values.grid(parts["from_window"], "from_window") if "from_window" in parts else None,
            values.grid(parts["to_window"], "to_window") if "to_window" in parts else None,
            values.integer(parts.get("extra_rows", 0), "extra_rows"),
            location=location,
        )

    def operation(self, value: Expression, target: tuple[int, ...] | None = None) -> Operation | None:
        old = self.from_window or self._window(value.shape, "from_window")
        new = self.to_window or self._window(target, "to_window")
        return None if old == new else ResampleBias(old, new, self.extra_rows)

    def _window(self, shape: tuple[int, ...] | None, key: str) -> Grid:
        if shape is not None and len(shape) == 3 and shape[1] % 2 and shape[2] % 2:
            return (shape[1] + 1) // 2, (shape[2] + 1) // 2
        if shape is not None and len(shape) == 2:
            side = math.isqrt(max(shape[0] - self.extra_rows, 0))
            window = (side + 1) // 2, (side + 1) // 2
            if math.prod(offsets(window)) + self.extra_rows == shape[0]:
                return window
        known = "" if shape is None else f" of the shape {list(shape)}"
        raise ShapeError(f"the window{known} is not known; say `{key}: [height, width]` (and `extra_rows`, if any)")

    def value(self) -> Any:
        extra = self.extra_rows or None
        parts = given(match=str(self.match), from_window=self.from_window, to_window=self.to_window, extra_rows=extra)
        return parts if len(parts) > 1 else str(self.match)


@dataclass(frozen=True)
class AdaptInputRule(_Adapting):
    """Fit a first convolution to another number of input channels."""

    kind: ClassVar[str] = "adapt_input"
    channels: int | None = None

    @classmethod
    def parse(cls, value: Any, location: Location | None) -> AdaptInputRule:
        parts = values.options(value, "match", ["match"], ["channels"])
        channels = values.integer(parts["channels"], "channels", 1) if "channels" in parts else None
        return cls(values.pattern(parts["match"], "match"), channels, location=location)

    def operation(self, value: Expression, target: tuple[int, ...] | None = None) -> Operation | None:
        if self.channels is None and (target is None or len(target) < 2):
            raise ShapeError("the number of input channels is not known; say `channels`")
        channels = self.channels or target[1]  # type: ignore[index]
        same = len(value.shape) > 1 and value.shape[1] == channels
        return None if same else AdaptInput(channels)

    def value(self) -> Any:
        return str(self.match) if self.channels is None else {"match": str(self.match), "channels": self.channels}


@dataclass(frozen=True)
class AdaptClassesRule(Rule):
    """Pick and order a classifier's rows by class name; classes that the source lacks get new rows."""

    kind: ClassVar[str] = "adapt_classes"
    match: Pattern
    source: tuple[str, ...] | None = None
    to: tuple[str, ...] | None = None
    also: Mapping[str, str] = field(default_factory=dict)
    new: str = "mean"

    @classmethod
    def parse(cls, value: Any, location: Location | None) -> AdaptClassesRule:
        parts = values.options(value, "match", ["match"], ["from", "to", "also", "new"])
        also = parts.get("also", {})
        if not isinstance(also, Mapping):
            raise values.MisfitError(f"expected a mapping of new names to old ones, not {also!r}", "also")
        return cls(
            values.pattern(parts["match"], "match"),
            values.texts(parts["from"], "from") if "from" in parts else None,
            values.texts(parts["to"], "to") if "to" in parts else None,
            {values.text(new, "also"): values.text(old, "also") for new, old in also.items()},
            values.choice(parts.get("new", "mean"), "new", ("mean", "zero")),
            location=location,
        )

    def apply(self, state: State) -> list[str]:
        names, unused = matching(state, [self.match])
        if not names:
            return unused
        old = self._known(self.source, state.surroundings.source_classes, "from", "of the source")
        new = self._known(self.to, state.surroundings.target_classes, "to", "wanted")
        rows = self._rows(old, new)
        for name in names:
            self._check_count(name, state.values[name].shape, len(old))
            state.change(name, self, lambda _: AdaptClasses(rows, self.new))
            if fresh := [label for label, row in zip(new, rows, strict=True) if row < 0]:
                state.initialised[name] = f"{len(fresh)} of {len(new)} rows, to {self.new}: {listed(fresh)}"
        return unused

    def _known(self, stated: Sequence[str] | None, known: Sequence[str], key: str, which: str) -> Sequence[str]:
        if classes := stated or known:
            return classes
        raise InputError(f"{self} needs the classes {which}", location=self.location, suggestion=f"say `{key}: […]`")

    def _check_count(self, name: str, shape: tuple[int, ...], count: int) -> None:
        if not shape or shape[0] != count:
            message = f"{self} does not fit {name!r}: it has {shape[0] if shape else 0} rows for {count} class names"
            raise InputError(message, location=self.location)

    def _rows(self, old: Sequence[str], new: Sequence[str]) -> tuple[int, ...]:
        places: dict[str, list[int]] = {}
        for row, label in enumerate(old):
            places.setdefault(plain(label), []).append(row)
        rows = []
        for label in new:
            found = places.get(plain(self.also.get(label, label)), [])
            if len(found) > 1:
                raise InputError(f"{self}: {label!r} names {len(found)} classes of the source", location=self.location)
            if not found and label in self.also:
                hint = did_you_mean(self.also[label], old)
                raise InputError(f"{self}: no class {self.also[label]!r}", location=self.location, suggestion=hint)
            rows.append(found[0] if found else -1)
        if all(row < 0 for row in rows):
            raise InputError(
                f"{self}: none of the {len(new)} classes wanted is among the source's",
                location=self.location,
                suggestion=did_you_mean(new[0], old) or "use `also: {new: old}`, or swap the head",
            )
        return tuple(rows)

    def inverse(self) -> list[Rule]:
        raise InversionError("rows of classes that are not wanted are gone")

    def value(self) -> Any:
        new = None if self.new == "mean" else self.new
        return given(
            **{
                "match": str(self.match),
                "from": self.source,
                "to": self.to,
                "also": dict(self.also) or None,
                "new": new,
            }
        )


def plain(label: str) -> str:
    """Class names agree when they differ in case, `_`, `-` and spaces alone."""
    return " ".join(label.casefold().replace("_", " ").replace("-", " ").split())
