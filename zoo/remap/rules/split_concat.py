"""Rules between one tensor and several: split, concat, stack, unstack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from zoo.errors import InputError, Location, listed
from zoo.remap.expression import Concat, Expression, Reshape, ShapeError, Slice, Stack, check_axis, make
from zoo.remap.rules import values as values_module
from zoo.remap.rules.base import Rule, State, given
from zoo.remap.rules.patterns import PatternError, Template, parse_replacement


@dataclass(frozen=True)
class _Joining(Rule):
    """`whole` on one side, `parts` on the other. `sizes` along `axis` must be stated where they are not equal."""

    whole: Template
    parts: tuple[Template, ...]
    axis: int = 0
    sizes: tuple[int, ...] | None = None

    @classmethod
    def read(cls, value: Any, location: Location | None, keys: tuple[str, str], sized: bool) -> Self:
        """`keys` are the YAML names of the whole and of the parts."""
        whole_key, parts_key = keys
        options = values_module.options(value, whole_key, keys, ["axis", "sizes"] if sized else ["axis"])
        whole = values_module.template(options[whole_key], whole_key)
        parts = values_module.templates(options[parts_key], parts_key)
        sizes = values_module.integers(options["sizes"], "sizes", 1) if "sizes" in options else None
        if sizes is not None and len(sizes) != len(parts):
            raise values_module.MisfitError(f"{len(sizes)} sizes for {len(parts)} tensors", "sizes")
        whole, parts = _agreed(whole, parts, whole_key, parts_key)
        return cls(whole, parts, values_module.integer(options.get("axis", 0), "axis"), sizes, location=location)

    def sides(self, whole: str, parts: str) -> dict[str, Any]:
        texts = [str(part) for part in self.parts]
        return {whole: str(self.whole), parts: texts, **given(axis=self.axis or None, sizes=self.sizes)}

    def shares(self, total: int) -> tuple[int, ...]:
        """The sizes of the parts of an axis of `total` positions."""
        count = len(self.parts)
        if self.sizes is None and total % count:
            raise ShapeError(f"{total} positions do not split into {count} equal parts; say `sizes: […]`")
        sizes = self.sizes or (total // count,) * count
        if sum(sizes) != total:
            raise ShapeError(f"sizes {list(sizes)} make {sum(sizes)}, not the {total} positions of axis {self.axis}")
        return sizes


def _agreed(
    whole: Template, parts: tuple[Template, ...], whole_key: str, parts_key: str
) -> tuple[Template, tuple[Template, ...]]:
    """Every part and the whole must name the same placeholders, so that the rule can be read both ways."""
    for part in parts:
        if odd := sorted(whole.names ^ part.names):
            raise values_module.MisfitError(
                f"{{{odd[0]}}} must be in {str(whole)!r} and in {str(part)!r}, or in neither", parts_key
            )
    try:
        limits = next((p for p in parts if any(h.kind in ("choice", "rest") for h in p.placeholders)), whole)
        whole = parse_replacement(str(whole), limits)
        return whole, tuple(parse_replacement(str(part), whole) for part in parts)
    except PatternError as error:
        raise values_module.MisfitError(str(error), whole_key) from error


class _FromOne(_Joining):
    """The whole is there and its parts are made."""

    def apply(self, state: State) -> list[str]:
        found = [(name, bound) for name in state.values if (bound := self.whole.match(name)) is not None]
        groups = []
        for name, bound in found:
            names = [text for part in self.parts if (text := part.fill(bound)) is not None]
            if len(set(names)) < len(self.parts):
                raise InputError(f"{self} does not give {len(self.parts)} names for {name!r}", location=self.location)
            with state.typed(name, self):
                groups.append((dict(zip(names, self.cut(state.values[name]), strict=True)), [name]))
        state.put(groups, self)
        return [] if found else [str(self.whole)]

    def cut(self, value: Expression) -> Sequence[Expression]:
        raise NotImplementedError


class _FromMany(_Joining):
    """The parts are there and the whole is made."""

    def apply(self, state: State) -> list[str]:
        groups = []
        for whole, names in self._groups(state):
            if absent := [name for name in names if name not in state.values]:
                raise InputError(
                    f"{self} needs all {len(names)} parts of {whole!r}; not there: {listed(map(repr, absent))}",
                    location=self.location,
                )
            values = [state.values[name] for name in names]
            with state.typed(whole, self):
                groups.append(({whole: self.join(values)}, names))
        state.put(groups, self)
        return [] if groups else [str(self.parts[0])]

    def _groups(self, state: State) -> Iterator[tuple[str, list[str]]]:
        """Each whole for which at least one part is there, and the names of all its parts."""
        wholes: dict[str, list[str]] = {}
        for name in state.values:
            for part in self.parts:
                bound = part.match(name)
                if bound is not None and (whole := self.whole.fill(bound)):
                    names = [other.fill(bound) for other in self.parts]
                    wholes.setdefault(whole, [str(other) for other in names])
        yield from wholes.items()

    def join(self, values: Sequence[Expression]) -> Expression:
        raise NotImplementedError


@dataclass(frozen=True)
class SplitRule(_FromOne):
    """Cut one tensor along an axis into several."""

    kind: ClassVar[str] = "split"

    @classmethod
    def parse(cls, value: Any, location: Location | None) -> SplitRule:
        return cls.read(value, location, ("from", "into"), sized=True)

    def cut(self, value: Expression) -> list[Expression]:
        check_axis(self.axis, value.shape)
        sizes = self.shares(value.shape[self.axis])
        starts = [sum(sizes[:k]) for k in range(len(sizes))]
        return [make(Slice(self.axis, start, start + size), value) for start, size in zip(starts, sizes, strict=True)]

    def inverse(self) -> list[Rule]:
        return [ConcatRule(self.whole, self.parts, self.axis, self.sizes)]

    def value(self) -> Any:
        return self.sides("from", "into")


@dataclass(frozen=True)
class ConcatRule(_FromMany):
    """Join several tensors along an axis; where they are not equally long, `sizes` says how long."""

    kind: ClassVar[str] = "concat"

    @classmethod
    def parse(cls, value: Any, location: Location | None) -> ConcatRule:
        return cls.read(value, location, ("into", "from"), sized=True)

    def join(self, values: Sequence[Expression]) -> Expression:
        whole = make(Concat(self.axis), *values)
        found = tuple(value.shape[self.axis] for value in values)
        if found != (self.sizes or found[:1] * len(found)):
            raise ShapeError(f"its parts have {list(found)} positions in axis {self.axis}; say `sizes: {list(found)}`")
        return whole

    def inverse(self) -> list[Rule]:
        return [SplitRule(self.whole, self.parts, self.axis, self.sizes)]

    def value(self) -> Any:
        return self.sides("into", "from")


@dataclass(frozen=True)
class StackRule(_FromMany):
    """Join several tensors of one shape along a new axis."""

    kind: ClassVar[str] = "stack"

    @classmethod
    def parse(cls, value: Any, location: Location | None) -> StackRule:
        return cls.read(value, location, ("into", "from"), sized=False)

    def join(self, values: Sequence[Expression]) -> Expression:
        return make(Stack(self.axis), *values)

    def inverse(self) -> list[Rule]:
        return [UnstackRule(self.whole, self.parts, self.axis)]

    def value(self) -> Any:
        return self.sides("into", "from")


@dataclass(frozen=True)
class UnstackRule(_FromOne):
    """Take a tensor apart along an axis, which is gone from the parts; one part a position."""

    kind: ClassVar[str] = "unstack"

    @classmethod
    def parse(cls, value: Any, location: Location | None) -> UnstackRule:
        return cls.read(value, location, ("from", "into"), sized=False)

    def cut(self, value: Expression) -> list[Expression]:
        check_axis(self.axis, value.shape)
        if value.shape[self.axis] != len(self.parts):
            raise ShapeError(f"axis {self.axis} of {list(value.shape)} has not {len(self.parts)} positions")
        shape = (*value.shape[: self.axis], *value.shape[self.axis + 1 :])
        return [make(Reshape(shape), make(Slice(self.axis, k, k + 1), value)) for k in range(len(self.parts))]

    def inverse(self) -> list[Rule]:
        return [StackRule(self.whole, self.parts, self.axis)]

    def value(self) -> Any:
        return self.sides("from", "into")
