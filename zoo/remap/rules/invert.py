"""Runs a program of rules backwards: the inverse of each rule, last first, and the check that it leads back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from zoo.errors import InputError, Problem
from zoo.formats.entry import Entry
from zoo.remap.rules.base import Rule, Surroundings, run, start
from zoo.remap.rules.names import Rename
from zoo.remap.rules.patterns import InversionError


def invert(rules: Sequence[Rule]) -> list[Rule]:
    """The program that undoes `rules`. Raises InputError that names every rule which cannot be undone, and why."""
    inverse: list[Rule] = []
    problems: list[Problem] = []
    for rule in reversed(rules):
        try:
            inverse += rule.inverse()
        except InversionError as error:
            problems.append(Problem(f"{rule} cannot run backwards: {error}", rule.location))
    if problems:
        raise InputError(problems[::-1])
    return inverse


def check_inverse(
    rules: Sequence[Rule], entries: Mapping[str, Entry], aliases: Mapping[str, str] | None = None
) -> None:
    """Prove on names, dtypes and shapes that `rules` lead from what their inverse makes of `entries` back to them.

    Raises InputError where they do not, and where a name has two inverses.
    """
    inverse = invert(rules)
    _check_one_way(inverse, entries, aliases or {})
    back = run(inverse, entries, aliases)
    there = {name: Entry(name, value.dtype, value.shape) for name, value in back.values.items()}
    try:
        again = run(rules, there, back.ties)
    except InputError as error:
        head = Problem("the rules cannot be run backwards on this file: what that makes, they do not take back")
        raise InputError([head, *error.problems]) from error
    expected = {name: (entry.dtype, entry.shape) for name, entry in entries.items()}
    found = {name: (value.dtype, value.shape) for name, value in again.values.items()}
    found |= {alias: found[name] for alias, name in again.ties.items()}
    if odd := [name for name in expected if found.get(name) != expected[name]]:
        raise InputError(
            f"the rules do not lead back to this file: {len(odd)} of its tensors, {odd[0]!r} first, would not come out "
            "of them again; is it in the layout that the rules lead to?"
        )
    if one_sided := [rule for rule in again.idle if not all(step in back.idle for step in rule.inverse())]:
        raise InputError(f"{one_sided[0]} does something backwards that it does not do forwards: names overlap")


def _check_one_way(inverse: Sequence[Rule], entries: Mapping[str, Entry], aliases: Mapping[str, str]) -> None:
    state = start(entries, aliases, Surroundings())
    for rule in inverse:
        if isinstance(rule, Rename) and (name := _ambiguous(rule, state.values)) is not None:
            ways = sorted({new for line in rule.lines if (new := line.apply(name)) is not None})
            told = " and ".join(map(repr, ways))
            raise InputError(
                f"{name!r} has {len(ways)} ways back, {told}: two lines of a rename lead to it",
                suggestion="make one of the two narrower: it must not match what the other one gives",
            )
        rule.apply(state)


def _ambiguous(rename: Rename, names: Iterable[str]) -> str | None:
    """The first name with several ways back, of which nothing says that the first is meant.

    Exceptions stand before the wider line that would take the same names. The first way is the one meant where it gives
    every line something to do, while the others would leave the exception without any: then no file that was in the
    layout the rules are for can have come the other way.
    """
    ways: dict[str, list[int]] = {}
    for name in names:
        made = {place: line.apply(name) for place, line in enumerate(rename.lines)}
        found = {new: place for place, new in reversed(made.items()) if new is not None}
        ways[name] = sorted(found.values())
    first = {places[0] for places in ways.values() if places}
    otherwise = {places[-1] for places in ways.values() if places}
    for name, places in ways.items():
        if len(places) > 1 and not (first.issuperset(places) and places[0] not in otherwise):
            return name
    return None
