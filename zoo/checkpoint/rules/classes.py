"""The rule that picks and orders a classifier's rows by class name: adapt_classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from zoo.checkpoint.adapting import AdaptClasses
from zoo.checkpoint.rules import reading
from zoo.checkpoint.rules.base import Rule, State, matching, said
from zoo.checkpoint.rules.patterns import InversionError, Pattern
from zoo.errors import InputError, Location, did_you_mean


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
        parts = reading.options(value, "match", ["match"], ["from", "to", "also", "new"])
        also = parts.get("also", {})
        if not isinstance(also, Mapping):
            raise reading.MisfitError(f"expected a mapping of new names to old ones, not {also!r}", "also")
        return cls(
            reading.pattern(parts["match"], "match"),
            reading.texts(parts["from"], "from") if "from" in parts else None,
            reading.texts(parts["to"], "to") if "to" in parts else None,
            {reading.text(new, "also"): reading.text(old, "also") for new, old in also.items()},
            reading.choice(parts.get("new", "mean"), "new", ("mean", "zero")),
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
                state.initialised[name] = f"{len(fresh)} of {len(new)} rows, to {self.new}: {', '.join(fresh)}"
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
        return said(
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
