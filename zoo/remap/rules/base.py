"""What a rule is, the state of the names between two rules, and how rules run on names, dtypes and shapes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from zoo.errors import InputError, Location, listed
from zoo.expressions import SlowExpressionError
from zoo.formats.entry import Entry
from zoo.remap.expression import Expression, Operation, ShapeError, make
from zoo.remap.rules.patterns import Pattern

MAX_NAME = 10_000  # letters; rules that double a name can make it of any length


@dataclass(frozen=True)
class Surroundings:
    """What rules may know beside the source's names: the target's entries and both class lists, where known."""

    target: Mapping[str, Entry] = field(default_factory=dict)
    source_classes: Sequence[str] = ()
    target_classes: Sequence[str] = ()


@dataclass(frozen=True)
class MustBeEqual:
    """Two tensors whose values must be equal, or something is lost; `message` and `suggestion` say what."""

    first: Expression
    second: Expression
    message: str
    suggestion: str


def must_be_one_tensor(alias: str, value: Expression, canonical: str, other: Expression) -> MustBeEqual:
    """That two names are given one tensor, which needs their values to be equal."""
    return MustBeEqual(
        value,
        other,
        f"{alias!r} and {canonical!r} are to be one tensor, but the source has two different ones",
        f"choose: drop the one that is not wanted, for example `drop: ^{alias}$`",
    )


@dataclass
class State:
    """The names between two rules, each with how its tensor is made of the source's, and what has happened so far.

    `shared` names hold the same tensor as another name (tied). `dropped` maps a name to the rule that dropped it, and
    `dropped_values` to what it was.
    `initialised` maps a name to what in it is new and comes from no source. `must_be_equal` is checked on the values.
    """

    values: dict[str, Expression]
    surroundings: Surroundings = field(default_factory=Surroundings)
    shared: set[str] = field(default_factory=set)
    dropped: dict[str, Rule] = field(default_factory=dict)
    dropped_values: dict[str, Expression] = field(default_factory=dict)
    initialised: dict[str, str] = field(default_factory=dict)
    must_be_equal: list[MustBeEqual] = field(default_factory=list)

    def rename(self, renamed: Mapping[str, str], rule: Rule) -> None:
        """Give names new ones, all at once, keeping their order. Raises InputError where two land on one name."""
        origins: dict[str, str] = {}
        for name in self.values:
            new = renamed.get(name, name)
            if not new:
                raise InputError(f"{rule} leaves nothing of the name {name!r}", location=rule.location)
            if len(new) > MAX_NAME:
                raise InputError(
                    f"{rule} makes a name of {len(new):,} letters out of {name[:60]!r}; {MAX_NAME:,} is the limit",
                    location=rule.location,
                )
            if new in origins:
                raise InputError(
                    f"{rule} puts two tensors on one name: {origins[new]!r} and {name!r} both become {new!r}",
                    location=rule.location,
                    suggestion="drop one of them first, or make the pattern narrower",
                )
            origins[new] = name
        self.values = {new: self.values[name] for new, name in origins.items()}
        self.shared = {renamed.get(name, name) for name in self.shared}
        self.initialised = {renamed.get(name, name): text for name, text in self.initialised.items()}

    def put(self, groups: Sequence[tuple[Mapping[str, Expression], Sequence[str]]], rule: Rule) -> None:
        """For each group of old names put new tensors in the place of the first of them.

        Raises InputError where a new name is taken, or an old one belongs to two groups.
        """
        instead = {old[0]: made for made, old in groups}
        gone = Counter(name for _, old in groups for name in old)
        if twice := [name for name, count in gone.items() if count > 1]:
            raise InputError(f"{rule} uses {twice[0]!r} twice", location=rule.location)
        values: dict[str, Expression] = {}
        for name, value in self.values.items():
            new = instead.get(name, {}) if name in gone else {name: value}
            if taken := [made for made in new if made in values or (name in gone and self._stays(made, gone))]:
                raise InputError(f"{rule} makes {taken[0]!r}, but that name is taken", location=rule.location)
            values.update(new)
        self.values = values
        self.shared -= gone.keys()

    def _stays(self, name: str, gone: Mapping[str, int]) -> bool:
        return name in self.values and name not in gone

    def change(self, name: str, rule: Rule, operation: Callable[[Expression], Operation | None]) -> None:
        """Apply the operation that `operation` gives for the tensor; None leaves it as it is."""
        with self.typed(name, rule):
            value = self.values[name]
            step = operation(value)
            self.values[name] = value if step is None else make(step, value)

    @contextmanager
    def typed(self, name: str, rule: Rule) -> Iterator[None]:
        """What does not fit in here becomes an InputError that names the rule and the tensor."""
        try:
            yield
        except ShapeError as error:
            raise InputError(f"{rule} does not fit {name!r}: {error}", location=rule.location) from error

    def drop(self, names: Iterable[str], rule: Rule) -> None:
        for name in list(names):
            self.dropped_values[name] = self.values.pop(name)
            self.shared.discard(name)
            self.dropped[name] = rule


@dataclass(frozen=True)
class Rule(ABC):
    """One rule of a program. `location` is its place in a file, if it has one."""

    kind: ClassVar[str]
    location: Location | None = field(default=None, compare=False, kw_only=True)

    @abstractmethod
    def apply(self, state: State) -> list[str]:
        """Run on names, dtypes and shapes; the parts of the rule (patterns, …) that found nothing to do come back."""

    @abstractmethod
    def inverse(self) -> list[Rule]:
        """The rules that undo it. Raises InversionError with the reason where there are none."""

    @abstractmethod
    def value(self) -> Any:
        """What follows `kind:` in YAML."""

    def as_mapping(self) -> dict[str, Any]:
        """The rule as it is written in YAML."""
        return {self.kind: self.value()}

    def __str__(self) -> str:
        return f"rule `{self.kind}: {_short(self.value())}`"


AUTO = "auto"
"""The remap that stands for the rules which `zoo.remap.auto` finds, and where these are said to stand."""


def is_autos(rule: Rule) -> bool:
    """Whether `auto` found the rule by evidence: nobody wrote it, and no network was run to prove it."""
    return rule.location is not None and rule.location.file == AUTO


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + listed((f"{key}: {_short(item)}" for key, item in value.items()), 4) + "}"
    if isinstance(value, list):
        return f"[{listed(map(_short, value))}]"
    return str(value)


def matching(state: State, patterns: Sequence[Pattern]) -> tuple[list[str], list[str]]:
    """The names that any of the patterns chooses, in order, and the patterns that choose none."""
    hits = {pattern: [name for name in state.values if pattern.matches(name)] for pattern in patterns}
    chosen = {name for names in hits.values() for name in names}
    return [name for name in state.values if name in chosen], [str(p) for p, names in hits.items() if not names]


@dataclass(frozen=True)
class EachMatch(Rule):
    """A rule that does one thing to each tensor that `match` chooses."""

    match: Pattern

    def apply(self, state: State) -> list[str]:
        names, unused = matching(state, [self.match])
        for name in names:
            entry = state.surroundings.target.get(name)
            state.change(name, self, partial(self.operation, target=None if entry is None else entry.shape))
        return unused

    @abstractmethod
    def operation(self, value: Expression, target: tuple[int, ...] | None = None) -> Operation | None:
        """What to do to this tensor; None to leave it. Raises ShapeError where it cannot be done.

        `target` is the shape of the target's tensor of that name, where there is one.
        """


def given(**values: Any) -> dict[str, Any]:
    """The values that are not None, tuples as lists: what a rule writes into YAML."""
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in values.items() if value is not None
    }


@dataclass(frozen=True)
class Outcome:
    """What a program makes of a source's names.

    `values` are the tensors it leads to, each once; `ties` maps further names of such a tensor to the name it has
    here. `unused` pairs a rule with each of its parts that found nothing to do; `idle` rules did nothing at all.
    """

    values: dict[str, Expression]
    ties: dict[str, str]
    dropped: dict[str, Rule]
    dropped_values: dict[str, Expression]
    initialised: dict[str, str]
    must_be_equal: tuple[MustBeEqual, ...]
    unused: tuple[tuple[Rule, str], ...]
    idle: tuple[Rule, ...]


def run(
    rules: Sequence[Rule],
    entries: Mapping[str, Entry],
    aliases: Mapping[str, str] | None = None,
    surroundings: Surroundings | None = None,
) -> Outcome:
    """Run `rules` over a source's `entries`; `aliases` maps further names of its tensors to entries.

    Raises InputError where a rule does not fit or two tensors land on one name.
    """
    state = start(entries, aliases or {}, surroundings or Surroundings())
    unused: list[tuple[Rule, str]] = []
    idle: list[Rule] = []
    for rule in rules:
        before = list(state.values.items())
        try:
            parts = rule.apply(state)
        except SlowExpressionError as error:
            (problem,) = error.problems
            raise InputError(problem.message, location=rule.location, suggestion=problem.suggestion) from error
        unused += [(rule, part) for part in parts]
        if parts and before == list(state.values.items()):
            idle.append(rule)
    values, ties = _once(state)
    return Outcome(
        values=values,
        ties=ties,
        dropped=state.dropped,
        dropped_values=state.dropped_values,
        initialised=state.initialised,
        must_be_equal=tuple(state.must_be_equal),
        unused=tuple(unused),
        idle=tuple(idle),
    )


def start(entries: Mapping[str, Entry], aliases: Mapping[str, str], surroundings: Surroundings) -> State:
    """The state before the first rule: the names of the source."""
    values = {name: Expression(entry.dtype, entry.shape, aliases.get(name, name)) for name, entry in entries.items()}
    for alias, canonical in aliases.items():
        entry = entries[canonical]
        values.setdefault(alias, Expression(entry.dtype, entry.shape, canonical))
    return State(values, surroundings, shared=set(aliases))


def _once(state: State) -> tuple[dict[str, Expression], dict[str, str]]:
    """Each tensor under one name, and the names that share it."""
    kept = {name: value for name, value in state.values.items() if name not in state.shared}
    holders: dict[Expression, str] = {}
    for name, value in kept.items():
        holders.setdefault(value, name)
    ties: dict[str, str] = {}
    for name in state.values:
        if name in state.shared:
            holder = holders.setdefault(state.values[name], name)
            if holder == name:
                kept[name] = state.values[name]
            else:
                ties[name] = holder
    return {name: kept[name] for name in state.values if name in kept}, ties
