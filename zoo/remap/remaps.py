"""What a remap means: the rules that `--remap`, `remap:` and `remap=` stand for, and a source's plan under them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo import registry
from zoo.errors import InputError, Location, ZooError
from zoo.formats import Source
from zoo.formats.entry import Entry
from zoo.plugin_calls import call, expect
from zoo.remap.networks import filling, large_enough, only_network, several_networks, taken, taking, under
from zoo.remap.plan import Plan, Target, make_plan
from zoo.remap.rules import Rule, Surroundings, load_rules, parse_rules, run
from zoo.remap.rules.base import AUTO
from zoo.remap.rules.names import StripPrefix
from zoo.remap.rules.parse import Locate

if TYPE_CHECKING:
    from zoo.remap.auto import MatchResult


Remap = str | os.PathLike[str] | Rule | Mapping[str, Any] | Sequence[Any] | None
"""A rule file, a plugin's remap, `auto`, an inline rule, a rule, or several of these in order."""


@dataclass(frozen=True)
class ChosenRules:
    """The rules to run, in order, and what was decided on the way, for people."""

    rules: tuple[Rule, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Planned:
    """A plan, the rules that led to it, and what was decided on the way. `adapted` says what of it is resampled for
    another input, `basis` is what it depends on beside the rules."""

    plan: Plan
    rules: tuple[Rule, ...]
    notes: tuple[str, ...]
    adapted: tuple[str, ...] = ()
    basis: Any = field(default=None, repr=False, compare=False)

    def fits(self, source: Source, target: Target | None) -> bool:
        """Whether planning anew by the same rules would give the same: names, dtypes and shapes are what they were."""
        return self.basis is not None and bool(self.basis == _basis(source, target))


def _basis(source: Source, target: Target | None) -> Any:
    return source.entries, source.aliases, source.wrappers, tuple(source.notes), classes_of(source.metadata), target


def plan_source(source: Source, remap: Remap = None, target: Target | None = None) -> Planned:
    """Plan what of `source` goes where: `choose_rules`, then `plan_rules`.

    Raises InputError for a remap that is none and for rules that do not fit, WorkError where `auto` abstains.
    """
    chosen = choose_rules(source, remap, target)
    plan = plan_rules(source, chosen.rules, target)
    return Planned(plan, chosen.rules, chosen.notes, basis=_basis(source, target))


def plan_rules(source: Source, rules: Sequence[Rule], target: Target | None = None) -> Plan:
    """The plan of a source under `rules`, its aliases and class names taken into account."""
    classes = classes_of(source.metadata)
    return make_plan(source.entries, rules, target, aliases=source.aliases, source_classes=classes)


def choose_rules(source: Source, remap: Remap = None, target: Target | None = None) -> ChosenRules:
    """The rules that `remap` stands for: given, installed, or found by `auto` from names and shapes alone.

    Prefixes that every name carries (`module.`) are stripped by rules in front where that helps. Of several networks in
    one file the only one that fills the target is taken. `notes` say so.

    Raises WorkError where `auto` abstains, and where several networks of the file could be meant.
    """
    if AUTO in items(remap):
        if target is None or not target.entries:
            raise InputError(
                "--remap auto needs to know what to match against",
                suggestion="name the architecture: --to ARCHITECTURE",
            )
        auto, result = split_at_auto(source, remap, target).matched(target)
        return auto.completed(result, target)
    rules, notes = read_rules(remap), list(source.notes)
    if (wrappers := unwrapping(source)) and _fits_better_stripped(source, wrappers, rules, target):
        rules, notes = [*wrappers, *rules], [*notes, *_stripped(source)]
    if target is not None and (prefix := only_network(made := made_of(source, rules, target), target)):
        rules, notes = [*rules, *taking(prefix)], [*notes, taken(prefix, made)]
    return ChosenRules(tuple(rules), tuple(notes))


def made_of(source: Source, rules: Sequence[Rule], target: Target | None = None) -> dict[str, Entry]:
    """What rules make of a source's entries."""
    known = (target.entries, classes_of(source.metadata), target.classes) if target else ()
    outcome = run(rules, source.entries, source.aliases, Surroundings(*known))
    return {name: Entry(name, value.dtype, value.shape) for name, value in outcome.values.items()}


@dataclass(frozen=True)
class AutoRemap:
    """A remap that says `auto`: the rules in front of it and after it, and what stands in between.

    `entries` are the source's tensors as the rules in front leave them: what the matcher is given.
    """

    before: tuple[Rule, ...]
    after: tuple[Rule, ...]
    entries: Mapping[str, Entry]
    notes: tuple[str, ...]

    def inside(self, prefix: str) -> AutoRemap:
        """The same of what is under a prefix only."""
        entries = under(self.entries, prefix)
        notes = (*self.notes, taken(prefix, self.entries))
        return AutoRemap((*self.before, *taking(prefix)), self.after, entries, notes)

    def matched(self, target: Target) -> tuple[AutoRemap, MatchResult]:
        """The match by evidence alone; of several networks in the file, with the one that it is a match of.

        Raises WorkError where several are one.
        """
        from zoo.remap.auto import match

        places = large_enough(self.entries, target)
        whole = match(self.entries, target.entries)
        if len(places) < 2 and whole.found:
            return self, whole
        fitting: dict[str, MatchResult] = {}
        for prefixes in places:
            tried = ((prefix, match(under(self.entries, prefix), target.entries)) for prefix in prefixes)
            fitting |= dict(next(([(p, result)] for p, result in tried if result.found and not result.missing), []))
        if len(fitting) > 1:
            raise several_networks(list(fitting), self.stripped)
        for prefix, result in fitting.items():
            return self.inside(prefix), result
        return self, whole

    @property
    def stripped(self) -> str:
        """The prefixes in front of every name of the file that came off first."""
        return "".join(rule.prefix for rule in self.before if isinstance(rule, StripPrefix))

    def completed(self, result: MatchResult, target: Target) -> ChosenRules:
        """All rules, with those that were found in the place of `auto`. Raises WorkError where there is no answer."""
        fitting = [] if result.found else fitting_remaps(self.entries, target.entries)
        place = None if result.status == "proved" else Location(AUTO, 1, 1)
        found = parse_rules(result.answer(fitting), place)
        return ChosenRules((*self.before, *found, *self.after), (*self.notes, *result.notes))


def split_at_auto(source: Source, remap: Remap, target: Target | None = None) -> AutoRemap:
    """Split a remap at `auto`. Rules in front of it see the names as the file has them, or, where that gives them more
    to do, without the prefixes that every name carries; behind them these come off.

    With a `target` that is filled by the names under one prefix alone, what is under that is taken. Raises WorkError
    where it is filled under several.
    """
    given = items(remap)
    if given.count(AUTO) > 1:
        raise InputError("--remap auto stands there twice", suggestion="say it once: it finds all rules at once")
    place = given.index(AUTO)
    rules, after = read_rules(given[:place]), read_rules(given[place + 1 :])
    wrappers = unwrapping(source)
    if rules and wrappers and _more_to_do([*wrappers, *rules], rules, source):
        rules, wrappers, notes = [*wrappers, *rules], [], [*source.notes, *_stripped(source)]
    else:
        notes = [*source.notes]
    rules, notes = _unwrapped(source, rules, wrappers, notes)
    auto = AutoRemap(tuple(rules), tuple(after), made_of(source, rules), tuple(notes))
    if target is None:
        return auto
    prefixes = filling(auto.entries, target)
    if len(prefixes) > 1:
        raise several_networks(prefixes, auto.stripped)
    return auto.inside(prefixes[0]) if prefixes and prefixes[0] else auto


def _more_to_do(rules: Sequence[Rule], than: Sequence[Rule], source: Source) -> bool:
    """Whether fewer parts of `rules` than of the others find nothing to do."""
    mine, its = (run(each, source.entries, source.aliases).unused for each in (rules, than))
    return len(mine) < len(its)


def _unwrapped(
    source: Source, rules: list[Rule], wrappers: Sequence[StripPrefix], notes: list[str]
) -> tuple[list[Rule], list[str]]:
    """Rules that strip what is left, behind `rules`, of the prefixes that every name carries."""
    for rule, note in zip(wrappers, _stripped(source), strict=bool(wrappers)):
        left = made_of(source, rules)
        if left and all(name.startswith(rule.prefix) for name in left):
            rules, notes = [*rules, rule], [*notes, note]
    return rules, notes


def unwrapping(source: Source) -> list[StripPrefix]:
    """The rules that strip the prefixes which every name of the source carries."""
    return [StripPrefix(prefix) for prefix in source.wrappers]


def _stripped(source: Source) -> list[str]:
    return [f"every name carried the prefix {prefix!r}: it was stripped" for prefix in source.wrappers]


def _fits_better_stripped(
    source: Source, wrappers: Sequence[Rule], given: Sequence[Rule], target: Target | None
) -> bool:
    """Whether more is filled, or fewer rules find nothing to do, once the wrappers' prefixes are stripped."""
    plain, stripped = _fit(source, given, target), _fit(source, [*wrappers, *given], target)
    if plain == stripped:  # without a target only rules can tell; stripped names are the better guess without any
        return target is None and not given
    return stripped > plain


def _fit(source: Source, rules: Sequence[Rule], target: Target | None) -> tuple[float, int]:
    """How well rules fit a source: the coverage, then how few of them find nothing to do."""
    try:
        plan = plan_rules(source, rules, target)
    except ZooError:
        return -1.0, 0
    return plan.coverage or 0.0, -len(plan.unused)


def items(*remaps: Remap) -> list[Any]:
    """Remaps as one flat list: each may be one item or several; paths become texts."""
    found: list[Any] = []
    for remap in remaps:
        if isinstance(remap, str | os.PathLike | Rule | Mapping):
            found.append(remap)
        elif remap is not None:
            found += list(remap)
    return [os.fspath(item) if isinstance(item, os.PathLike) else item for item in found]


Meaning = Literal["auto", "rules", "file", "inline", "installed"]


def meaning_of(item: Any) -> Meaning:
    """What one item of a remap is: `auto`, rules, a file of rules, a rule written inline, or an installed remap."""
    if not isinstance(item, str):
        return "rules"
    if item == AUTO:
        return "auto"
    if item.endswith((".yaml", ".yml")) or _is_file(item):
        return "file"
    return "inline" if "=" in item or ":" in item else "installed"


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:  # a rule may be longer than a file's name can be
        return False


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


def read_rules(remap: Remap) -> list[Rule]:
    """The rules that are written in `remap`, in files or in plugins; `auto` is not among them."""
    return [rule for item in items(remap) for rule in rules_of(item)]


def _installed(name: str, location: Location | None) -> list[Rule]:
    """The rules of a plugin's remap."""
    component = registry.find(name, "remaps")
    if component is None:
        message = f"{name!r} is no remap: neither a file, nor an installed remap, nor OLD=NEW"
        hint = registry.unknown(name, "remaps").problems[0].suggestion
        raise InputError(message, location=location, suggestion=hint)
    rules = call(component, registry.load(component), failing="fails to give its rules", location=location)
    expect(component, rules, (list, tuple), "a list of rules")
    # A rule's number stands in for its line, as the plugin's code has none that would mean anything.
    return parse_rules(rules, lambda path: Location(component.name, int(path[0]) + 1, 1) if path else None)


def classes_of(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The class names in a zoo checkpoint's header; none for other files."""
    try:
        classes = json.loads(metadata.get("zoo", "{}")).get("classes") or ()
    except (ValueError, AttributeError, RecursionError):
        return ()
    return tuple(classes) if isinstance(classes, list) and all(isinstance(name, str) for name in classes) else ()


def fitting_remaps(source: Mapping[str, Entry], target: Mapping[str, Entry]) -> list[str]:
    """Names of the installed remaps that fill all of the target's parameters and leave nothing of the source unused."""
    return [name for name in registry.names("remaps") if _fits(name, source, target)]


def _fits(name: str, source: Mapping[str, Entry], target: Mapping[str, Entry]) -> bool:
    try:
        plan = make_plan(source, parse_rules(registry.load(name, "remaps")()), Target(target))
    except Exception:  # rules that do not fit, or a plugin's own code that fails: neither is worth suggesting
        return False
    return plan.coverage == 1.0 == plan.use
