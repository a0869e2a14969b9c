"""From the entries of two state dicts to an answer: units, classes, the solver, links, rules."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from zoo.errors import Problem, WorkError, any_of, listed
from zoo.formats.entry import Entry
from zoo.formats.names import LEAVES
from zoo.remap.auto.leftovers import needless, resized
from zoo.remap.auto.links import Link, link, ordered
from zoo.remap.auto.solver import Choice, Decision, Side, Solver
from zoo.remap.auto.tree import Execution, Group, Order, Question, blank, is_registration
from zoo.remap.auto.units import Shape, Unit, classes, find_units, fuse, squeezed
from zoo.remap.auto.write_rules import RuleMapping, write_rules

Status = Literal["proved", "unique", "ambiguous", "refuted", "none"]
SHOWN = 6  # names of a group that a message lists


@dataclass(frozen=True)
class Proof:
    """What running both networks showed: the target with the source's weights moved by the rules, on the same input.

    Attributes:
        equal: the outputs agree within rounding.
        error: largest difference of the outputs, relative to their size.
        agreeing: how many modules, in the target's order of execution, agree before the first that does not.
        text: for people: on what input, how close, and where the networks diverge if they do.
        unseen: parameters of the target that do not influence the outputs measurably: nothing was proved of them.
    """

    equal: bool
    error: float
    agreeing: int
    text: str
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ambiguity:
    """Paths whose correspondence is not certain; `what` says which part of it is open."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    what: str = "the correspondence is open"

    @classmethod
    def of(cls, group: Group) -> Ambiguity:
        """The ambiguity of a group that was not decided."""
        return cls(tuple(item.shown for item in group.sources), tuple(item.shown for item in group.targets))

    def __str__(self) -> str:
        return f"{{{listed(self.sources, SHOWN)}}} -> {{{listed(self.targets, SHOWN)}}}: {self.what}"


@dataclass(frozen=True)
class MatchResult:
    """Which tensor of the source corresponds to which of the target: a verdict, and rules where there is one answer.

    `status` is
        proved      running both networks gave the same outputs with every parameter random
        unique      evidence that does not contradict itself leaves one answer; nothing was run
        ambiguous   several answers are left; `groups` names them, and there are no rules
        refuted     evidence left one answer, but the networks do not compute the same with it; no rules
        none        names and shapes have too little in common; no rules

    `rules` are mappings as they stand in YAML. `candidate` holds those of a refuted answer, to be looked at. `links`
    are the tensors that correspond; `missing` names of the target that nothing fills, `surplus` names of the source
    that have no place.
    """

    status: Status
    rules: list[RuleMapping]
    links: tuple[Link, ...]
    groups: tuple[Ambiguity, ...]
    decisions: tuple[Decision, ...]
    assumptions: tuple[str, ...]
    missing: tuple[str, ...]
    surplus: tuple[str, ...]
    coverage: float
    proof: Proof | None = None
    candidate: list[RuleMapping] | None = None

    @property
    def found(self) -> bool:
        return self.status in ("proved", "unique")

    @property
    def mapping(self) -> Mapping[str, tuple[str, ...]]:
        """Target name -> the source's tensors that make it."""
        return {name: link.sources for link in self.links for name in link.targets if name}

    def as_dict(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "rules": self.rules if self.found else None,
            "coverage": self.coverage,
            "evidence": self.evidence,
            "assumptions": list(self.assumptions),
            "ambiguous": [vars(group) for group in self.groups],
            "missing": list(self.missing),
            "surplus": list(self.surplus),
            "proof": None if self.proof is None else {"equal": self.proof.equal, "error": self.proof.error},
        }

    @property
    def evidence(self) -> dict[str, int]:
        """What decided between items that roles and shapes leave open, and how many groups it decided."""
        return dict(Counter(decision.reason for decision in self.decisions))

    def answer(self, fitting: Sequence[str] = ()) -> list[RuleMapping]:
        """The rules. Raises WorkError that says why there are none, and what would help.

        `fitting` are names of installed remaps that would do instead.
        """
        if self.found:
            return self.rules
        which = say_which((group.sources, group.targets) for group in self.groups)
        hint = which or "write rules for what is open, in front of auto or in its place (docs/remap.md)"
        if fitting:
            hint = f"an installed remap fits: --remap {any_of(fitting)}"
        elif self.proof and not which:
            hint = "write the rules yourself (docs/remap.md); the proof says where the networks diverge"
        raise WorkError([Problem(f"--remap auto: {self.notes[0]}", None, hint), *map(Problem, self.notes[1:])])

    def render(self) -> str:
        return "\n".join(self.notes)

    @property
    def notes(self) -> list[str]:
        """The verdict and what it rests on, or the reasons to abstain, as lines for people."""
        lines = [_VERDICTS[self.status]]
        if self.status != "none":
            fits = len(self.mapping)
            lines.append(f"{fits} of {fits + len(self.missing)} tensors of the target have a source")
        if self.decisions:
            reasons = ", ".join(f"{reason} ({count})" for reason, count in self.evidence.items())
            lines.append(f"groups of equal shapes were settled by: {reasons}")
        if self.proof:
            lines.append(self.proof.text)
        lines += [f"assumed: {assumption}" for assumption in self.assumptions if self.status in ("unique", "ambiguous")]
        lines += [f"not certain: {group}{more}" for group, more in self._questions()]
        for names, what in ((self.missing, "no source for"), (self.surplus, "no place for")):
            lines += [f"{what}: {{{listed(names, SHOWN)}}}"] if names else []
        return lines

    def _questions(self) -> list[tuple[Ambiguity, str]]:
        """The ambiguous groups; of those that are alike in several blocks the first, with how many more there are."""
        alike: dict[tuple[str, ...], list[Ambiguity]] = {}
        for group in self.groups:
            alike.setdefault(tuple(map(blank, (*group.sources, *group.targets))), []).append(group)
        return [(same[0], f" (and {len(same) - 1} like it)" * (len(same) > 1)) for same in alike.values()]


_VERDICTS = {
    "proved": "proved: both networks give the same outputs with every parameter random",
    "unique": "unique: one answer is left and no evidence contradicts it; nothing was run",
    "ambiguous": "ambiguous: more than one answer is left, so none is given",
    "refuted": "refuted: the only answer that names, shapes and order leave does not make the networks agree",
    "none": "no answer: names and shapes on the two sides have too little in common",
}

Entries = Mapping[str, Entry]

DEEPEST = 100  # modules inside of one another; what a name of thousands would take grows with its square
LEAST_COVERAGE = 0.5  # of the target's elements or tensors; below both the two are not taken for the same network


def match(
    source: Entries,
    target: Entries,
    *,
    source_execution: Mapping[str, int] | None = None,
    target_execution: Mapping[str, int] | None = None,
) -> MatchResult:
    """Which tensor of the source corresponds to which of the target, as rules; or an abstention that says why.

    Decided by evidence alone; `zoo.conversion.equivalence.match_networks` runs both networks too.

    Args:
        source: the source's entries, in file order; of a known architecture, better in the order of its state dict.
        target: the target's entries, in the order of its state dict.
        source_execution, target_execution: position of each tensor's first use when the network runs
            (`zoo.conversion.equivalence.execution_order`); used where both are given.
    """
    matching = Matching.of(source, target, source_execution, target_execution)
    return matching.result(matching.solve({}))


@dataclass(frozen=True)
class Matching:
    """Two state dicts to be matched, as entries and as units. It can be solved several times, with other choices."""

    source: Entries
    target: Entries
    mine: Side
    its: Side

    @classmethod
    def of(
        cls,
        source: Entries,
        target: Entries,
        source_execution: Mapping[str, int] | None = None,
        target_execution: Mapping[str, int] | None = None,
    ) -> Matching:
        """The problem of `match`, with the same arguments. Raises WorkError for names that no network has."""
        for name in (*source, *target):
            if name.count(".") > DEEPEST:
                parts = f"a name of {name.count('.') + 1:,} parts, {name[:40]}…"
                raise WorkError(f"--remap auto: {parts}: no network is nested so", suggestion="write rules for it")
        mine, its = find_units(source), find_units(target)
        mine = fuse(mine, its)
        its = fuse(its, mine)
        orders = Order(is_registration(source)), Order(is_registration(target), certain=True)
        return cls(
            source,
            target,
            Side(mine, orders[0], Execution(source_execution) if source_execution else None),
            Side(its, orders[1], Execution(target_execution) if target_execution else None),
        )

    def solve(self, choices: Mapping[Question, Choice]) -> Solver:
        solver = Solver(self.mine, self.its, classes(self.mine.units, self.its.units), choices)
        solver.run()
        return solver

    def links(self, solver: Solver) -> list[Link]:
        pairs = [*solver.pairs, *(pair for group in solver.undecided for pair in _shared(group))]
        return ordered(link(pairs, self.source, self.target), self.source, self.target)

    def resized(self, solver: Solver, links: Sequence[Link]) -> list[Link]:
        """What the source has in another size: renamed, but not filled."""
        idle = self._unpaired(self.mine, {name for entry in links for name in entry.sources})
        wanting = self._unpaired(self.its, {name for entry in links for name in _targets(entry)})
        made = link(resized(solver.blocks, idle, wanting), self.source, self.target)
        return [entry for entry in made if len(entry.sources) == len(entry.targets) == 1 and not entry.turned]

    def _unpaired(self, side: Side, linked: set[str]) -> list[Unit]:
        """The units none of whose tensors is linked."""
        return [
            unit
            for unit in side.units
            if linked.isdisjoint(name for part in unit.parts.values() for name in part.names if name)
        ]

    def rules(self, solver: Solver, proved: bool) -> list[RuleMapping]:
        """The rules. They drop tensors that are known to be needless: after a proof, all that have no place."""
        links = self.links(solver)
        surplus = self._without(self.source, links, _sources)
        idle = surplus if proved else needless(surplus, self.source, links)
        others = [entry for entry in self.resized(solver, links) if entry.source not in idle]
        return write_rules(links, self.source, self.target, solver.blocks, idle, others)

    def result(self, solver: Solver) -> MatchResult:
        """The answer as far as evidence goes, without running anything."""
        links = self.links(solver)
        missing, surplus = self._without(self.target, links, _targets), self._without(self.source, links, _sources)
        open_groups = [group for group in solver.undecided if not _shared(group)]
        groups = (*map(Ambiguity.of, open_groups), *self._alike(links), *_hidden(links), *_pooled(links))
        total = sum(entry.elements for entry in self.target.values())
        coverage = 1 - sum(self.target[name].elements for name in missing) / total if total else 0.0
        filled = 1 - len(missing) / len(self.target) if self.target else 0.0
        result = MatchResult(
            "ambiguous" if groups else "none" if max(coverage, filled) < LEAST_COVERAGE else "unique",
            [], tuple(links), groups, tuple(solver.decisions), _assumptions(links), missing, surplus, coverage,
        )  # fmt: skip
        return replace(result, rules=self.rules(solver, proved=False)) if result.found else result

    def _without(self, entries: Entries, links: Sequence[Link], names: Callable[[Link], list[str]]) -> tuple[str, ...]:
        linked = {name for entry in links for name in names(entry)}
        return tuple(name for name in entries if name not in linked)

    def _apart(self, side: Side, linked: set[str], entries: Entries) -> dict[str, Shape]:
        """The floating-point tensors of modules without a partner, and their shapes without axes of size 1."""
        parts = (part for unit in self._unpaired(side, linked) for part in unit.parts.values())
        alone = (name for part in parts for name in part.names if name)
        return {name: squeezed(tuple(entries[name].shape)) for name in alone if _floating(entries[name])}

    def _alike(self, links: Sequence[Link]) -> list[Ambiguity]:
        """Tensors of modules without a partner, on both sides, that are alike in shape: what they are is open."""
        wanting = self._apart(self.its, {name for entry in links for name in _targets(entry)}, self.target)
        idle = self._apart(self.mine, {name for entry in links for name in entry.sources}, self.source)
        return [
            Ambiguity(tuple(n for n in idle if idle[n] == shape), tuple(n for n in wanting if wanting[n] == shape))
            for shape in dict.fromkeys(wanting.values())
            if shape in idle.values()
        ]


def _sources(entry: Link) -> list[str]:
    return list(entry.sources)


def _targets(entry: Link) -> list[str]:
    return [name for name in entry.targets if name]


def _floating(entry: Entry) -> bool:
    return entry.dtype.startswith(("F", "BF"))


def _shared(group: Group) -> list[tuple[Unit, Unit]]:
    """The one table of relative positions that BEiT's pretraining has for all blocks, for each of them."""
    tables = [item for item in (*group.sources, *group.targets) if item.path.endswith(_TABLE) and item.unit]
    if len(group.sources) != 1 or len(tables) != 1 + len(group.targets):
        return []
    return [(mine.unit, its.unit) for mine in group.sources for its in group.targets if mine.unit and its.unit]


_TABLE = "relative_position_bias_table"


def _pooled(links: Sequence[Link]) -> list[Ambiguity]:
    """Norms of which one stands in front of the pooling of tokens, and the other behind it."""
    found = [
        entry
        for entry in links
        if (".fc_norm." in f".{entry.target}" and not _BEHIND.search(entry.source))
        or (".fc_norm." in f".{entry.source}" and not _BEHIND.search(entry.target))
    ]
    what = "one norm stands in front of the pooling, the other (fc_norm) behind it: these are two networks"
    names = tuple(entry.source for entry in found), tuple(entry.target for entry in found)
    return [Ambiguity(names[0], names[1], what)] if found else []


_BEHIND = re.compile(r"fc_norm|pool|head|norm_?2|ln_?2")


def _hidden(links: Sequence[Link]) -> list[Ambiguity]:
    """Where shapes do not show in which order the values stand: tables with swapped axes, patch merging."""
    turned = [entry for entry in links if entry.turned]
    merging = [entry for entry in links if entry.order == "?"]
    return [
        Ambiguity(tuple(n for e in hidden for n in _sources(e)), tuple(n for e in hidden for n in _targets(e)), what)
        for hidden, what in ((turned, _TURNED), (merging, _MERGING))
        if hidden
    ]


_TURNED = "the order of the values inside is open"
_MERGING = (
    "the order of the values inside is open: nn.Unfold (OpenMMLab) puts the pixels of a patch otherwise than slices do"
)


def _assumptions(links: Sequence[Link]) -> tuple[str, ...]:
    """What shapes cannot show: the order of the parts in a tensor fused on one side and separate on the other."""
    joined = [entry for entry in links if len(entry.sources) != len(entry.targets)]
    what = "contains query, key and value one after the other"
    merging = [entry for entry in links if entry.order not in ("", "?")]
    uses = Counter(source for entry in links for source in entry.sources if len(entry.targets) == 1)
    return (
        *(
            f"{source} is the one table of all {count} blocks, and each gets a copy (untie)"
            for source, count in uses.items()
            if count > 1
        ),
        *(f"{joined[0].target} (and {len(joined) - 1} like it) {what}" for _ in joined[:1]),
        *(f"patch merging ({merging[0].target}, …) goes from the order of {merging[0].order}" for _ in merging[:1]),
    )


def say_which(groups: Iterable[tuple[Sequence[str], Sequence[str]]]) -> str | None:
    """The renames that would settle the first group of paths (the source's, the target's) that a word settles.

    Such a group differs in one component of its paths on each side (`norm_before` and `norm_after`, `norm1` and
    `norm2`); the same word on both sides is what `auto` goes by first.
    """
    for sources, targets in groups:
        mine, its = _words(sources), _words(targets)
        if mine and its and len(mine) == len(its) and not {*mine} & {*its}:
            ways = [rf"--remap '\b{re.escape(mine[0])}\b={word}' if it is {word}" for word in its]
            return f"say in front of auto which of them {mine[0]} is: {', '.join(ways)}"
    return None


def _words(paths: Sequence[str]) -> list[str]:
    """The component in which the paths differ, where it is one, a module's, and no number."""
    rows = [path.split(".") for path in paths]
    if len(rows) < 2 or len({len(row) for row in rows}) > 1:
        return []
    differing = [column for column in zip(*rows, strict=True) if len({*column}) > 1]
    words = list(differing[0]) if len(differing) == 1 else []
    named = not any(word.isdecimal() or word in LEAVES for word in words)
    return words if named and len({*words}) == len(words) else []
