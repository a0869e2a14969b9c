"""Rules that change names and leave the tensors alone: rename, strip_prefix, add_prefix, drop, keep, tie, untie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from zoo.errors import InputError, Location
from zoo.remap.rules import values
from zoo.remap.rules.base import Rule, State, matching, must_be_one_tensor
from zoo.remap.rules.patterns import InversionError, Pattern, PatternError, Renaming, Template, parse_replacement


@dataclass(frozen=True)
class Rename(Rule):
    """Give keys new names. Its lines are alternatives: the first one that matches a key renames it."""

    kind: ClassVar[str] = "rename"
    lines: tuple[Renaming, ...]

    @classmethod
    def parse(cls, value: Any, location: Location | None) -> Rename:
        if not isinstance(value, Mapping) or not value:
            raise values.MisfitError(f"expected a mapping of patterns to replacements, not {value!r}")
        return cls(tuple(_renaming(old, new) for old, new in value.items()), location=location)

    def apply(self, state: State) -> list[str]:
        renamed: dict[str, str] = {}
        used: set[Renaming] = set()
        for name in state.values:
            for line in self.lines:
                if (new := line.apply(name)) is not None:
                    renamed[name] = new
                    used.add(line)
                    break
        state.rename(renamed, self)
        return [str(line.pattern) for line in self.lines if line not in used]

    def inverse(self) -> list[Rule]:
        return [Rename(tuple(line.inverse() for line in self.lines))]

    def value(self) -> dict[str, str]:
        return {str(line.pattern): str(line.replacement) for line in self.lines}


def _renaming(old: Any, new: Any) -> Renaming:
    if not isinstance(new, str):
        raise values.MisfitError(f"expected a replacement text, not {new!r}", old)
    try:
        return Renaming.parse(values.text(old, old), new)
    except PatternError as error:
        raise values.MisfitError(str(error), old) from error


@dataclass(frozen=True)
class StripPrefix(Rule):
    """Remove a prefix from the keys that have it."""

    kind: ClassVar[str] = "strip_prefix"
    prefix: str

    @classmethod
    def parse(cls, value: Any, location: Location | None) -> StripPrefix:
        return cls(values.text(values.options(value, "prefix", ["prefix"])["prefix"], "prefix"), location=location)

    def apply(self, state: State) -> list[str]:
        carrying = [name for name in state.values if name.startswith(self.prefix)]
        state.rename({name: name.removeprefix(self.prefix) for name in carrying}, self)
        return [] if carrying else [self.prefix]

    def inverse(self) -> list[Rule]:
        return [AddPrefix(self.prefix)]

    def value(self) -> str:
        return self.prefix


@dataclass(frozen=True)
class AddPrefix(Rule):
    """Put a prefix in front of every key, or of those that `match` chooses."""

    kind: ClassVar[str] = "add_prefix"
    prefix: str
    match: Pattern | None = None

    @classmethod
    def parse(cls, value: Any, location: Location | None) -> AddPrefix:
        parts = values.options(value, "prefix", ["prefix"], ["match"])
        match = values.pattern(parts["match"], "match") if "match" in parts else None
        return cls(values.text(parts["prefix"], "prefix"), match, location=location)

    def apply(self, state: State) -> list[str]:
        chosen = [name for name in state.values if self.match is None or self.match.matches(name)]
        state.rename({name: self.prefix + name for name in chosen}, self)
        return [] if chosen else [str(self.match or self.prefix)]

    def inverse(self) -> list[Rule]:
        return [StripPrefix(self.prefix)]

    def value(self) -> Any:
        return self.prefix if self.match is None else {"prefix": self.prefix, "match": str(self.match)}


@dataclass(frozen=True)
class Drop(Rule):
    """Leave out the keys that match. `derived` says that the network computes them itself, so nothing is lost."""

    kind: ClassVar[str] = "drop"
    patterns: tuple[Pattern, ...]
    derived: bool = False

    @classmethod
    def parse(cls, value: Any, location: Location | None) -> Drop:
        parts = values.options(value, "match", ["match"], ["derived"])
        derived = values.boolean(parts.get("derived", False), "derived")
        return cls(values.patterns(parts["match"], "match"), derived, location=location)

    def apply(self, state: State) -> list[str]:
        names, unused = matching(state, self.patterns)
        state.drop(names, self)
        return unused

    def inverse(self) -> list[Rule]:
        if not self.derived:
            raise InversionError("what was dropped cannot be brought back")
        return []

    def value(self) -> Any:
        texts = _one_or_list(self.patterns)
        return {"match": texts, "derived": True} if self.derived else texts


@dataclass(frozen=True)
class Keep(Rule):
    """Leave out every key that does not match."""

    kind: ClassVar[str] = "keep"
    patterns: tuple[Pattern, ...]

    @classmethod
    def parse(cls, value: Any, location: Location | None) -> Keep:
        return cls(values.patterns(values.options(value, "match", ["match"])["match"], "match"), location=location)

    def apply(self, state: State) -> list[str]:
        kept, unused = matching(state, self.patterns)
        state.drop(set(state.values) - set(kept), self)
        return unused

    def inverse(self) -> list[Rule]:
        raise InversionError("what was not kept cannot be brought back")

    def value(self) -> Any:
        return _one_or_list(self.patterns)


def _one_or_list(patterns: tuple[Pattern, ...]) -> str | list[str]:
    return str(patterns[0]) if len(patterns) == 1 else [str(pattern) for pattern in patterns]


@dataclass(frozen=True)
class _Pairing(Rule):
    """ALIAS: CANONICAL pairs of templates."""

    pairs: tuple[tuple[Template, Template], ...]

    @classmethod
    def parse(cls, value: Any, location: Location | None) -> _Pairing:
        if not isinstance(value, Mapping) or not value:
            raise values.MisfitError(f"expected a mapping of alias to canonical name, not {value!r}")
        return cls(tuple(_pair(alias, canonical) for alias, canonical in value.items()), location=location)

    def value(self) -> dict[str, str]:
        return {str(alias): str(canonical) for alias, canonical in self.pairs}

    def apply(self, state: State) -> list[str]:
        unused = []
        for alias, canonical in self.pairs:
            found = [(name, bound) for name in state.values if (bound := canonical.match(name)) is not None]
            for name, bound in found:
                if filled := alias.fill(bound):
                    self.join(state, filled, name)
            unused += [] if found else [str(canonical)]
        return unused

    def join(self, state: State, alias: str, canonical: str) -> None:
        raise NotImplementedError


def _pair(alias: Any, canonical: Any) -> tuple[Template, Template]:
    known = values.template(canonical, alias)
    try:
        return parse_replacement(values.text(alias, alias), known), known
    except PatternError as error:
        raise values.MisfitError(str(error), alias) from error


@dataclass(frozen=True)
class Tie(_Pairing):
    """The alias is the same tensor as the canonical name; it is kept once."""

    kind: ClassVar[str] = "tie"

    def join(self, state: State, alias: str, canonical: str) -> None:
        own, value = state.values.get(alias), state.values[canonical]
        if own is not None and (own.dtype, own.shape) != (value.dtype, value.shape):
            raise InputError(
                f"{self} ties {alias!r} {list(own.shape)} to {canonical!r} {list(value.shape)}: other shape or dtype",
                location=self.location,
            )
        if own is not None and own != value:
            state.must_be_equal.append(must_be_one_tensor(alias, own, canonical, value))
        state.values[alias] = value
        state.shared.add(alias)

    def inverse(self) -> list[Rule]:
        return [Untie(self.pairs)]


@dataclass(frozen=True)
class Untie(_Pairing):
    """The alias gets a copy of its own of the canonical name's tensor."""

    kind: ClassVar[str] = "untie"

    def join(self, state: State, alias: str, canonical: str) -> None:
        if alias in state.values and alias not in state.shared:
            raise InputError(
                f"{self} would write over {alias!r}, which has a tensor of its own", location=self.location
            )
        state.values[alias] = state.values[canonical]
        state.shared -= {alias, canonical}

    def inverse(self) -> list[Rule]:
        return [Tie(self.pairs)]
