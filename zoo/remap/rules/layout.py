"""Rules that rearrange one tensor at a time: cast, transpose, permute, reshape, slice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from zoo.errors import Location
from zoo.formats.dtypes import DTYPES, FLOATING, torch_name
from zoo.remap.expression import (
    Cast,
    Expression,
    Operation,
    Permute,
    Reshape,
    ShapeError,
    Slice,
    check_axis,
    make,
)
from zoo.remap.rules import values
from zoo.remap.rules.base import EachMatch, MustBeEqual, Rule, State, given
from zoo.remap.rules.patterns import InversionError, Pattern


@dataclass(frozen=True)
class CastRule(Rule):
    """Convert to another dtype: the tensors that match, or all floating-point ones. `source` limits it to a dtype;
    `exact` makes it an error where a value would be rounded."""

    kind: ClassVar[str] = "cast"
    to: str
    match: Pattern | None = None
    source: str | None = None
    exact: bool = False

    @classmethod
    def parse(cls, value: Any, location: Location | None) -> CastRule:
        parts = values.options(value, "to", ["to"], ["match", "from", "exact"])
        match = values.pattern(parts["match"], "match") if "match" in parts else None
        source = values.dtype(parts["from"], "from") if "from" in parts else None
        exact = values.boolean(parts.get("exact", False), "exact")
        return cls(values.dtype(parts["to"], "to"), match, source, exact, location=location)

    def apply(self, state: State) -> list[str]:
        chosen = [name for name, value in state.values.items() if self._takes(name, value)]
        for name in chosen:
            before = state.values[name]
            state.change(name, self, lambda _: Cast(self.to))
            if self.exact and (after := state.values[name]) != before:
                message = f"{self} would round values of {name!r}"
                state.must_be_equal.append(
                    MustBeEqual(make(Cast(before.dtype), after), before, message, "narrow it with `match`")
                )
        return [] if chosen else [str(self.match or self.source or self.to)]

    def _takes(self, name: str, value: Expression) -> bool:
        matched = value.dtype in FLOATING if self.match is None else self.match.matches(name)
        return matched and self.source in (None, value.dtype)

    def inverse(self) -> list[Rule]:
        if self.source is None:
            raise InversionError("it does not say what the dtype was; say `from: …`")
        if self.to not in DTYPES[self.source].wider:
            raise InversionError(f"{self.to} cannot represent every value of {self.source}")
        return [CastRule(self.source, self.match, self.to, exact=True)]

    def value(self) -> Any:
        to = torch_name(self.to)
        source = None if self.source is None else torch_name(self.source)
        match = None if self.match is None else str(self.match)
        parts = given(**{"to": to, "match": match, "from": source, "exact": self.exact or None})
        return parts if len(parts) > 1 else to


@dataclass(frozen=True)
class Transpose(EachMatch):
    """Swap two axes; without `axes` the two of a matrix."""

    kind: ClassVar[str] = "transpose"
    axes: tuple[int, int] | None = None

    @classmethod
    def parse(cls, value: Any, location: Location | None) -> Transpose:
        parts = values.options(value, "match", ["match"], ["axes"])
        axes = values.integers(parts["axes"], "axes") if "axes" in parts else None
        if axes is not None and (len(axes) != 2 or axes[0] == axes[1]):
            raise values.MisfitError(f"expected two different axes, not {list(axes)}", "axes")
        return cls(values.pattern(parts["match"], "match"), axes, location=location)

    def operation(self, value: Expression, target: tuple[int, ...] | None = None) -> Operation:
        if self.axes is None and len(value.shape) != 2:
            raise ShapeError(f"the shape {list(value.shape)} is no matrix; say which two `axes` to swap")
        first, second = self.axes or (0, 1)
        order = list(range(len(value.shape)))
        check_axis(max(first, second), value.shape)
        order[first], order[second] = second, first
        return Permute(tuple(order))

    def inverse(self) -> list[Rule]:
        return [self]

    def value(self) -> Any:
        return str(self.match) if self.axes is None else {"match": str(self.match), "axes": list(self.axes)}


@dataclass(frozen=True)
class PermuteRule(EachMatch):
    """Reorder all axes: axis k of the result is axis `axes[k]` of the tensor."""

    kind: ClassVar[str] = "permute"
    axes: tuple[int, ...]

    @classmethod
    def parse(cls, value: Any, location: Location | None) -> PermuteRule:
        parts = values.options(value, "match", ["match", "axes"])
        axes = values.integers(parts["axes"], "axes")
        if sorted(axes) != list(range(len(axes))):
            raise values.MisfitError(f"expected each of 0 to {len(axes) - 1} once, not {list(axes)}", "axes")
        return cls(values.pattern(parts["match"], "match"), axes, location=location)

    def operation(self, value: Expression, target: tuple[int, ...] | None = None) -> Operation:
        return Permute(self.axes)

    def inverse(self) -> list[Rule]:
        back = tuple(self.axes.index(axis) for axis in range(len(self.axes)))
        return [PermuteRule(self.match, back)]

    def value(self) -> Any:
        return {"match": str(self.match), "axes": list(self.axes)}


@dataclass(frozen=True)
class ReshapeRule(EachMatch):
    """The same elements under another shape. `source` is the shape it must have before, with -1 and 0 for any size."""

    kind: ClassVar[str] = "reshape"
    to: tuple[int, ...]
    source: tuple[int, ...] | None = None

    @classmethod
    def parse(cls, value: Any, location: Location | None) -> ReshapeRule:
        parts = values.options(value, "match", ["match", "to"], ["from"])
        source = values.shape(parts["from"], "from") if "from" in parts else None
        return cls(values.pattern(parts["match"], "match"), values.shape(parts["to"], "to"), source, location=location)

    def operation(self, value: Expression, target: tuple[int, ...] | None = None) -> Operation:
        if self.source is not None and not _fits(value.shape, self.source):
            raise ShapeError(f"the shape {list(value.shape)} is not of the form {list(self.source)}")
        return Reshape(_worked_out(value.shape, self.to))

    def inverse(self) -> list[Rule]:
        if self.source is None:
            raise InversionError("it does not say what the shape was; say `from: […]`")
        return [ReshapeRule(self.match, self.source, self.to)]

    def value(self) -> Any:
        return given(**{"match": str(self.match), "from": self.source, "to": self.to})


def _fits(shape: tuple[int, ...], form: tuple[int, ...]) -> bool:
    return len(shape) == len(form) and all(want in (0, -1, size) for size, want in zip(shape, form, strict=True))


def _worked_out(shape: tuple[int, ...], form: tuple[int, ...]) -> tuple[int, ...]:
    """The form with 0 replaced by the size at the same place and -1 by what is left."""
    if any(size == 0 and axis >= len(shape) for axis, size in enumerate(form)):
        raise ShapeError(f"{list(form)} keeps a size that the shape {list(shape)} does not have")
    sizes = [shape[axis] if size == 0 else size for axis, size in enumerate(form)]
    known = math.prod(size for size in sizes if size != -1)
    elements = math.prod(shape)
    if -1 in sizes and (known == 0 or elements % known):
        raise ShapeError(f"the {elements:,} elements of {list(shape)} do not fill {list(form)}")
    return tuple(elements // known if size == -1 else size for size in sizes)


@dataclass(frozen=True)
class SliceRule(EachMatch):
    """Keep positions `start` to `stop` of one axis; negative ones count from the end."""

    kind: ClassVar[str] = "slice"
    axis: int = 0
    start: int = 0
    stop: int | None = None

    @classmethod
    def parse(cls, value: Any, location: Location | None) -> SliceRule:
        parts = values.options(value, "match", ["match"], ["axis", "start", "stop"])
        stop = values.integer(parts["stop"], "stop", -(2**62)) if parts.get("stop") is not None else None
        return cls(
            values.pattern(parts["match"], "match"),
            values.integer(parts.get("axis", 0), "axis"),
            values.integer(parts.get("start", 0), "start", -(2**62)),
            stop,
            location=location,
        )

    def operation(self, value: Expression, target: tuple[int, ...] | None = None) -> Operation:
        check_axis(self.axis, value.shape)
        size = value.shape[self.axis]
        stop = size if self.stop is None else self.stop
        return Slice(self.axis, self.start + size * (self.start < 0), stop + size * (stop < 0))

    def inverse(self) -> list[Rule]:
        raise InversionError("what was cut off cannot be brought back")

    def value(self) -> Any:
        return given(match=str(self.match), axis=self.axis, start=self.start, stop=self.stop)
