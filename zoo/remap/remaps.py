"""From what a user gives as a remap to rules, and from a source and those to a plan."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from zoo import registry
from zoo.errors import InputError, Location, WorkError, ZooError
from zoo.formats import Source
from zoo.formats.entry import Entry
from zoo.remap.plan import Plan, Target, make_plan
from zoo.remap.rules import Rule, load_rules, parse_rules, run
from zoo.remap.rules.parse import Locate


def fitting_remaps(source: Mapping[str, Entry], target: Mapping[str, Entry]) -> list[str]:
    """Names of the remaps that fill all of the target's parameters and leave nothing of the source unused."""
    return [name for name in registry.names("remaps") if _fits(name, source, target)]


def _fits(name: str, source: Mapping[str, Entry], target: Mapping[str, Entry]) -> bool:
    try:
        plan = make_plan(source, parse_rules(registry.load(name, "remaps")()), Target(target))
    except Exception:  # rules that do not fit, or a plugin's own code that fails: neither is worth suggesting
        return False
    return plan.coverage == 1.0 == plan.use


Remap = str | os.PathLike[str] | Rule | Mapping[str, Any] | Sequence[Any] | None
"""A rule file, a plugin's remap, `auto`, an inline rule, a rule, or several of these in order."""

Match = Callable[[Mapping[str, Entry], Mapping[str, Entry]], tuple[Sequence[Mapping[str, Any]], Sequence[str]]]
"""Finds what `auto` stands for: rules that lead from one set of entries to another, and notes about them."""


@dataclass(frozen=True)
class Planned:
    """A plan, the rules that led to it, and what was decided on the way. `basis` is what it depends on beside them."""

    plan: Plan
    rules: tuple[Rule, ...]
    notes: tuple[str, ...]
    basis: Any = field(default=None, repr=False, compare=False)

    def fits(self, source: Source, target: Target | None) -> bool:
        """Whether planning anew by the same rules would give the same: names, dtypes and shapes are what they were."""
        return self.basis is not None and bool(self.basis == _basis(source, target))


def _basis(source: Source, target: Target | None) -> Any:
    return source.entries, source.aliases, source.wrappers, tuple(source.notes), classes_of(source.metadata), target


def plan_source(
    source: Source,
    remap: Remap = None,
    target: Target | None = None,
    *,
    location: Location | None = None,
    match: Match | None = None,
) -> Planned:
    """Plan what of `source` goes where. Prefixes that every name carries (`module.`) are stripped by a rule where that
    helps, and `notes` say so.

    Raises InputError for a remap that is none, and for rules that do not fit.
    """
    notes = list(source.notes)
    wrappers = parse_rules([{"strip_prefix": prefix} for prefix in source.wrappers])
    best: tuple[tuple[float, int, int], Planned] | None = None
    error: ZooError | None = None
    for prefix in _prefixes(wrappers, remap):
        try:
            rules, told = resolve(remap, source, target, prefix, location, match)
            plan = make_plan(
                source.entries, rules, target, aliases=source.aliases, source_classes=classes_of(source.metadata)
            )
        except ZooError as failure:
            error = error or failure
            continue
        # Without a target only the rules can tell: stripped names are the better guess where none are given.
        score = (plan.coverage or 0.0, -len(plan.unused), int(bool(prefix) and target is None and not remap))
        stripped = [f"every name carried the prefix {text!r}: it was stripped" for text in source.wrappers if prefix]
        if best is None or score > best[0]:
            best = score, Planned(plan, tuple(rules), (*notes, *stripped, *told), _basis(source, target))
    if best is None:
        assert error is not None
        raise error
    return best[1]


def _prefixes(wrappers: list[Rule], remap: Remap) -> list[list[Rule]]:
    """Rules to try in front: none, and those that strip wrappers. The matcher is asked once; it needs no wrappers."""
    if not wrappers:
        return [[]]
    return [wrappers] if "auto" in items(remap) else [[], wrappers]


def resolve(
    remap: Remap,
    source: Source,
    target: Target | None = None,
    before: Sequence[Rule] = (),
    location: Location | None = None,
    match: Match | None = None,
) -> tuple[list[Rule], list[str]]:
    """The rules that `remap` stands for, behind those of `before`, and notes about them."""
    rules, notes = list(before), []
    for item in items(remap):
        if item == "auto":
            found, told = _auto(rules, source, target, match or _match)
            rules += found
            notes += told
        else:
            rules += rules_of(item, location)
    return rules, notes


def items(*remaps: Remap) -> list[Any]:
    """What a user gave, one by one: a remap may be one thing or several, and remaps follow one another."""
    found: list[Any] = []
    for remap in remaps:
        if isinstance(remap, str | os.PathLike | Rule | Mapping):
            found.append(os.fspath(remap) if isinstance(remap, os.PathLike) else remap)
        elif remap is not None:
            found += list(remap)
    return found


Meaning = Literal["auto", "rules", "file", "inline", "installed"]


def meaning_of(item: Any) -> Meaning:
    """What one item of a remap is: `auto`, rules, a file of rules, a rule written inline, or an installed remap."""
    if not isinstance(item, str):
        return "rules"
    if item == "auto":
        return "auto"
    if item.endswith((".yaml", ".yml")) or Path(item).is_file():
        return "file"
    return "inline" if "=" in item or ":" in item else "installed"


def rules_of(item: Any, location: Location | Locate | None = None) -> list[Rule]:
    """The rules that one item of a remap stands for; any item but `auto`, whose rules depend on the file.

    Raises InputError for what is neither a rule nor the name of rules.
    """
    if isinstance(item, Rule):
        return [item]
    meaning = meaning_of(item)
    if meaning == "file":
        return load_rules(item)
    if meaning == "installed":
        return _installed(item, location if isinstance(location, Location) else None)
    return parse_rules([item] if isinstance(item, Mapping) else item, location)


def _installed(name: str, location: Location | None) -> list[Rule]:
    """The rules of a plugin's remap."""
    component = registry.find(name, "remaps")
    if component is None:
        message = f"{name!r} is no remap: neither a file, nor an installed remap, nor OLD=NEW"
        hint = registry.unknown(name, "remaps").problems[0].suggestion
        raise InputError(message, location=location, suggestion=hint)
    make = registry.load(component)
    try:
        rules = make()
    except Exception as error:  # a plugin's code may fail in any way
        raise WorkError(f"{component.name} fails to give its rules: {error!r}", location=location) from error
    # A rule's number stands in for its line, as the plugin's code has none that would mean anything.
    return parse_rules(rules, lambda path: Location(component.name, int(path[0]) + 1, 1) if path else None)


def _auto(before: Sequence[Rule], source: Source, target: Target | None, match: Match) -> tuple[list[Rule], list[str]]:
    """Rules that the matcher finds for the names as they stand after the rules before."""
    outcome = run(before, source.entries, source.aliases)
    entries = {name: Entry(name, value.dtype, value.shape) for name, value in outcome.values.items()}
    rules, notes = match(entries, {} if target is None else target.entries)
    return parse_rules(rules), list(notes)


def _match(
    entries: Mapping[str, Entry], target: Mapping[str, Entry]
) -> tuple[Sequence[Mapping[str, Any]], Sequence[str]]:
    from zoo.remap.auto import match

    if not target:
        raise InputError(
            "--remap auto needs to know what to match against", suggestion="name the architecture: --to ARCHITECTURE"
        )
    result = match(entries, target)
    return result.answer(lambda: fitting_remaps(entries, target)), result.notes


def classes_of(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The class names a zoo checkpoint's header tells, none for other files."""
    try:
        classes = json.loads(metadata.get("zoo", "{}")).get("classes") or ()
    except (ValueError, AttributeError, RecursionError):
        return ()
    return tuple(classes) if isinstance(classes, list) and all(isinstance(name, str) for name in classes) else ()
