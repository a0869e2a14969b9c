"""The plan: which tensors of a source fill which of a target, decided on names, dtypes and shapes alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from zoo.errors import Problem, WorkError, listed
from zoo.formats.dtypes import FLOATING
from zoo.formats.entry import Entry
from zoo.formats.names import grouped
from zoo.remap import leftovers
from zoo.remap.expression import Cast, Expression, Operation, Span, byte_spans, evaluate
from zoo.remap.rules import MustBeEqual, Rule, Surroundings, run
from zoo.remap.rules.base import is_autos, must_be_one_tensor

if TYPE_CHECKING:
    import numpy as np


BATCH_NORM_BUFFERS = (".running_mean", ".running_var", ".num_batches_tracked")


@dataclass(frozen=True)
class Target:
    """What is to be filled: its entries, which of them are parameters, and names that share one tensor.

    Without `parameters` everything but batch-norm statistics counts as one. `tied` maps an alias to its canonical
    name; both are in `entries`. What is under an `ignored` path (a head that is about to be swapped) need
    not be filled. `classes` are the class names wanted, by row.
    """

    entries: Mapping[str, Entry]
    parameters: frozenset[str] | None = None
    tied: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    classes: Sequence[str] = ()

    def is_parameter(self, name: str) -> bool:
        if self.parameters is None:
            return not name.endswith(BATCH_NORM_BUFFERS)
        return name in self.parameters

    def ignores(self, name: str) -> bool:
        return any(name == path or name.startswith(f"{path}.") for path in self.ignored)


@dataclass(frozen=True)
class Move:
    """One tensor of the destination and how it is made; without operations, a copy of bytes."""

    target: str
    value: Expression

    @property
    def sources(self) -> tuple[str, ...]:
        return self.value.sources

    @property
    def operations(self) -> tuple[Operation, ...]:
        return self.value.operations

    @property
    def dtype(self) -> str:
        return self.value.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    def spans(self) -> tuple[Span, ...] | None:
        """The bytes that can be copied as they are, in order; None where values are rearranged or changed."""
        return byte_spans(self.value)

    def cast_spans(self) -> tuple[Span, ...] | None:
        """Where all that happens to the bytes is one cast at the end: the bytes before it."""
        return byte_spans(self.value.inputs[0]) if isinstance(self.value.operation, Cast) else None

    def as_dict(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "sources": list(self.sources),
            "operations": [str(operation) for operation in self.operations],
            "dtype": self.dtype,
            "shape": list(self.shape),
        }


@dataclass(frozen=True)
class Mismatch:
    """A tensor whose name fits and whose shape does not. `shape` is what the rules made of the source."""

    name: str
    sources: tuple[str, ...]
    shape: tuple[int, ...]
    target_shape: tuple[int, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "sources": list(self.sources),
            "source_shape": list(self.shape),
            "target_shape": list(self.target_shape),
        }


MIN_COVERAGE = 1.0
"""What every load and every conversion to an architecture asks for: all of it, outside a head that is replaced. Less
is accepted only where somebody says so (`min_coverage`)."""


@dataclass(frozen=True)
class Plan:
    """The decision. Every list is in the source's or the target's own order.

    Attributes:
        moves: the tensors that are written or loaded.
        ties: alias -> name of the move that holds the same tensor.
        missing: the target's tensors that nothing fills, parameters and buffers.
        unexpected: what is left of the source with no place in the target, by its name after the rules.
        mismatched: right name, wrong shape.
        dropped: name -> the rule that dropped it.
        initialised: name -> what in it is new and comes from no source.
        must_be_equal: pairs of tensors whose values must be equal, or something is lost.
        unused: rules, with their parts that found nothing to do.
        idle: whether there were rules and not one of them found anything to do.
        target: what was to be filled, or None.
        dropped_values: name -> what was dropped.
    """

    moves: tuple[Move, ...]
    ties: Mapping[str, str]
    missing: tuple[str, ...]
    unexpected: Mapping[str, Expression]
    mismatched: tuple[Mismatch, ...]
    dropped: Mapping[str, Rule]
    initialised: Mapping[str, str]
    must_be_equal: tuple[MustBeEqual, ...]
    unused: tuple[tuple[Rule, str], ...]
    idle: bool = False
    target: Target | None = None
    dropped_values: Mapping[str, Expression] = field(default_factory=dict)

    @cached_property
    def filled(self) -> frozenset[str]:
        """Names that get a tensor, aliases too."""
        return frozenset(move.target for move in self.moves) | self.ties.keys()

    @property
    def coverage(self) -> float | None:
        """The share of the target's parameters that is filled, by element count; None without a target."""
        return self._share(parameters=True)

    @property
    def buffer_coverage(self) -> float | None:
        """The same of its floating-point buffers; counters and index tables are not counted."""
        return self._share(parameters=False)

    def _share(self, parameters: bool) -> float | None:
        if self.target is None:
            return None
        counted = self.counted(parameters)
        total = sum(counted.values())
        return sum(size for name, size in counted.items() if name in self.filled) / total if total else 1.0

    def counted(self, parameters: bool) -> dict[str, int]:
        """Elements of each tensor that counts; tied ones count once."""
        assert self.target is not None
        return {
            name: entry.elements
            for name, entry in self.target.entries.items()
            if self.target.is_parameter(name) == parameters
            and not self.target.ignores(name)
            and name not in self.target.tied
            and (parameters or entry.dtype in FLOATING)
        }

    @property
    def use(self) -> float:
        """The share of the source's floating-point elements that found a place, not counting what a rule dropped."""
        unused = sum(value.elements for value in set(self.leftovers.values()) if value.dtype in FLOATING)
        used = sum(move.value.elements for move in self.moves if move.dtype in FLOATING)
        return used / (used + unused) if used + unused else 1.0

    @cached_property
    def leftovers(self) -> Mapping[str, Expression]:
        """What of the source found no place, outside a head that is replaced; other names of what did are left out."""
        used = {move.value for move in self.moves}
        ignores = self.target.ignores if self.target else lambda name: False
        return {name: value for name, value in self.unexpected.items() if value not in used and not ignores(name)}

    def _needed(self, values: Mapping[str, Expression]) -> list[str]:
        """Those of the values without a place that belong to modules which are loaded."""
        if self.target is None:
            return []
        names = {name: value.sources for name, value in values.items() if value.dtype in FLOATING}
        return leftovers.needed(names, (source for move in self.moves for source in move.sources)) if names else []

    def _codes(self) -> list[str]:
        """Tensors whose numbers would be taken for what they are not: codes for floats, or complex for real ones."""
        wanted = self.target.entries if self.target else {}
        return [m.target for m in self.moves if wanted and _is_code(m.dtype, wanted[m.target].dtype)]

    def problems(self, min_coverage: float = MIN_COVERAGE) -> list[Problem]:
        """Why this plan should not be carried out when `min_coverage` is asked for; empty where all is well."""
        found = []
        if not self.moves:
            found.append(Problem("not one tensor would be moved"))
        if self.idle:
            found.append(Problem("none of the rules found anything to do: the file is not in the layout they are for"))
        for share, what, left in (
            (self.coverage, "of the target's parameters would be filled", self.missing_parameters),
            (self.buffer_coverage, "of the target's buffers would be filled", self.missing_buffers),
            (self.use, "of the file would be used, and no rule drops the rest", list(self.leftovers)),
        ):
            if share is not None and share < min_coverage:
                without = f" (without {', '.join(grouped(left))})" if left else ""
                asked = f"{percent(min_coverage)} is asked for"
                found.append(Problem(f"only {percent(share)} {what}; {asked}{without}"))
        return [*found, *self._lost()]

    def _lost(self) -> list[Problem]:
        """What stops a plan whatever coverage is asked for, and how to drop what is merely left over."""
        found = []
        by_auto = {n: v for n, v in self.dropped_values.items() if n in self.dropped and is_autos(self.dropped[n])}
        needed, dropped = self._needed(self.leftovers), self._needed(by_auto)
        filled = not self.missing_parameters
        found += [leftovers.problem(needed, filled=filled)] if needed else []
        found += [leftovers.problem(dropped, by_auto=True)] if dropped else []
        if codes := self._codes():
            kinds = listed(sorted({move.dtype for move in self.moves if move.target in set(codes)}))
            message = f"{', '.join(grouped(codes))}: the file has {kinds} numbers where the target's are floating-point"
            hint = "they are codes of quantised weights: dequantise them with the library that made the file"
            found.append(Problem(message, suggestion=hint))
        return found

    @property
    def missing_parameters(self) -> list[str]:
        return [name for name in self.missing if self.target is None or self.target.is_parameter(name)]

    @property
    def missing_buffers(self) -> list[str]:
        return [name for name in self.missing if self.target is not None and not self.target.is_parameter(name)]

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain data: the heart of `zoo convert --json`."""
        return {
            "coverage": self.coverage,
            "buffer_coverage": self.buffer_coverage,
            "use": self.use,
            "moves": [move.as_dict() for move in self.moves],
            "ties": dict(self.ties),
            "missing": list(self.missing),
            "unexpected": list(self.unexpected),
            "mismatched": [mismatch.as_dict() for mismatch in self.mismatched],
            "dropped": list(self.dropped),
            "initialised": dict(self.initialised),
            "unused_rules": [
                {"rule": str(rule), "part": part, "location": str(rule.location) if rule.location else None}
                for rule, part in self.unused
            ],
        }


def make_plan(
    entries: Mapping[str, Entry],
    rules: Sequence[Rule] = (),
    target: Target | None = None,
    *,
    aliases: Mapping[str, str] | None = None,
    source_classes: Sequence[str] = (),
) -> Plan:
    """Decide what of a source with these `entries` goes where.

    Args:
        entries: the source's tensors.
        rules: run in order over the names.
        target: what is to be filled; without it the source's layout after the rules is the destination's.
        aliases: further names of the source's tensors (`Source.aliases`, and what its metadata says is tied).
        source_classes: class names by row of the source's classifier, for `adapt_classes`.

    Raises InputError where a rule does not fit a tensor or two tensors land on one name.
    """
    surroundings = Surroundings(target.entries if target else {}, source_classes, target.classes if target else ())
    outcome = run(rules, entries, aliases, surroundings)
    plan = Plan(
        moves=tuple(Move(name, value) for name, value in outcome.values.items()),
        ties=outcome.ties,
        missing=(),
        unexpected={},
        mismatched=(),
        dropped=outcome.dropped,
        initialised=outcome.initialised,
        must_be_equal=outcome.must_be_equal,
        unused=outcome.unused,
        idle=bool(rules) and len(outcome.idle) == len(rules),
        target=target,
        dropped_values=outcome.dropped_values,
    )
    return plan if target is None else _against(plan, target)


def _against(plan: Plan, target: Target) -> Plan:
    """The plan with what does not fit the target taken out, and tied names joined."""
    available = {move.target: move.value for move in plan.moves}
    available |= {alias: available[name] for alias, name in plan.ties.items()}
    fitting = {name: v for name, v in available.items() if _fits(name, v, target)}
    moves, ties, must_be_equal = _once(fitting, target)
    filled = moves.keys() | ties.keys()
    return replace(
        plan,
        moves=tuple(Move(name, value) for name, value in moves.items()),
        ties=ties,
        missing=tuple(name for name in target.entries if name not in filled),
        unexpected={name: value for name, value in available.items() if name not in target.entries},
        mismatched=tuple(
            Mismatch(name, value.sources, value.shape, target.entries[name].shape)
            for name, value in available.items()
            if name in target.entries and name not in fitting
        ),
        must_be_equal=(*plan.must_be_equal, *must_be_equal),
    )


def _is_code(dtype: str, target: str) -> bool:
    """Whether numbers of a dtype are no values of floating-point tensors."""
    return target in FLOATING and dtype not in FLOATING


def percent(share: float) -> str:
    """A share for people; never rounded up to 100%."""
    return "100%" if share == 1 else f"{min(share * 100, 99.99):.4g}%"


def _fits(name: str, value: Expression, target: Target) -> bool:
    return name in target.entries and target.entries[name].shape == value.shape


def _once(
    fitting: Mapping[str, Expression], target: Target
) -> tuple[dict[str, Expression], dict[str, str], list[MustBeEqual]]:
    """Each of the target's tensors filled once: moves by canonical name, ties, and what must prove equal."""
    moves: dict[str, Expression] = {}
    ties: dict[str, str] = {}
    must_be_equal: list[MustBeEqual] = []
    for name in target.entries:
        canonical = target.tied.get(name, name)
        group = [canonical, *(alias for alias, main in target.tied.items() if main == canonical)]
        given = [member for member in group if member in fitting]
        if not given:
            continue
        if name != canonical:
            ties[name] = canonical
            continue
        moves[name] = fitting[given[0]]
        must_be_equal += [
            must_be_one_tensor(other, fitting[other], given[0], fitting[given[0]])
            for other in given[1:]
            if fitting[other] != fitting[given[0]]
        ]
    return moves, ties, must_be_equal


def check_equal(plan: Plan, read: Callable[[str], np.ndarray[Any, Any]]) -> None:
    """Raises WorkError with every pair of tensors that must be equal and is not."""
    problems = []
    for pair in plan.must_be_equal:
        first, second = evaluate(pair.first, read), evaluate(pair.second, read)
        if first.tobytes() != second.tobytes():
            problems.append(Problem(pair.message, suggestion=pair.suggestion))
    if problems:
        raise WorkError(problems)
