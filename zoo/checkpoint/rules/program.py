"""Runs rules in order on names, dtypes and shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zoo.checkpoint.expression import Expression
from zoo.checkpoint.header import Entry
from zoo.checkpoint.rules.base import Claim, Rule, State, Surroundings


@dataclass(frozen=True)
class Outcome:
    """What a program makes of a source's names.

    `values` are the tensors it leads to, each once; `ties` maps further names of such a tensor to the name it stands
    under. `unused` pairs a rule with each of its parts that found nothing to do; `idle` rules did nothing at all.
    """

    values: dict[str, Expression]
    ties: dict[str, str]
    dropped: dict[str, Rule]
    initialised: dict[str, str]
    claims: tuple[Claim, ...]
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
        parts = rule.apply(state)
        unused += [(rule, part) for part in parts]
        if parts and before == list(state.values.items()):
            idle.append(rule)
    values, ties = _once(state)
    return Outcome(values, ties, state.dropped, state.initialised, tuple(state.claims), tuple(unused), tuple(idle))


def start(entries: Mapping[str, Entry], aliases: Mapping[str, str], surroundings: Surroundings) -> State:
    """The names as the source has them."""
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
