"""The straight line from two key sets to an answer: units, classes, the solver, rules, and a proof where possible."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

from zoo.checkpoint.header import Entry
from zoo.checkpoint.match.classes import classes
from zoo.checkpoint.match.groups import Group, Question
from zoo.checkpoint.match.layout import RuleMapping
from zoo.checkpoint.match.links import Link, link
from zoo.checkpoint.match.order import Execution, Order, is_registration
from zoo.checkpoint.match.program import write_rules
from zoo.checkpoint.match.result import Ambiguity, MatchResult, Proof
from zoo.checkpoint.match.solver import Choice, Side, Solver
from zoo.checkpoint.match.units import find_units, fuse, squeezed

Prove = Callable[[Sequence[RuleMapping]], Proof]
Entries = Mapping[str, Entry]

LEAST_COVERAGE = 0.5  # of the target's elements; below it two key sets are not taken for the same network
MAX_PROOFS = 40
MAX_ITEMS = 4  # of a group whose permutations are tried by running the networks


def match(
    source: Entries,
    target: Entries,
    *,
    source_execution: Mapping[str, int] | None = None,
    target_execution: Mapping[str, int] | None = None,
    prove: Prove | None = None,
) -> MatchResult:
    """Which tensor of the source is which of the target, as rules; or an abstention that says why.

    Args:
        source: the source's entries, in file order; of a known architecture, better in the order of its state dict.
        target: the target's entries, in the order of its state dict.
        source_execution, target_execution: position of each tensor's first use when the network runs
            (`zoo.model.execution.execution_order`); used where both are given.
        prove: moves random weights by rules and runs both networks (`zoo.model.equivalence.Prover`). With it an
            answer is only given if the networks agree, and open groups are settled by trying.
    """
    problem = _Problem(source, target, *_sides(source, target, source_execution, target_execution))
    solved = problem.solve({})
    result = problem.result(solved)
    if prove is None or result.status == "none":
        return result
    return _settled(problem, solved, prove) if solved.undecided else _proved(problem, solved, prove, result)


def _sides(
    source: Entries, target: Entries, first: Mapping[str, int] | None, second: Mapping[str, int] | None
) -> tuple[Side, Side]:
    mine, its = find_units(source), find_units(target)
    orders = Order(is_registration(source)), Order(is_registration(target))
    return (
        Side(fuse(mine, its), orders[0], Execution(first) if first else None),
        Side(fuse(its, mine), orders[1], Execution(second) if second else None),
    )


@dataclass(frozen=True)
class _Problem:
    source: Entries
    target: Entries
    mine: Side
    its: Side

    def solve(self, choices: Mapping[Question, Choice]) -> Solver:
        solver = Solver(self.mine, self.its, classes(self.mine.units, self.its.units), choices)
        solver.run()
        return solver

    def links(self, solver: Solver) -> list[Link]:
        return link(solver.pairs, self.source, self.target)

    def rules(self, solver: Solver) -> list[RuleMapping]:
        return write_rules(self.links(solver), self.source, self.target, solver.blocks)

    def result(self, solver: Solver) -> MatchResult:
        """The answer as far as evidence goes, without running anything."""
        links = self.links(solver)
        used, filled = ({n for entry in links for n in names(entry)} for names in (_sources, _targets))
        missing = tuple(name for name in self.target if name not in filled)
        surplus = tuple(name for name in self.source if name not in used)
        groups = (*map(_ambiguity, solver.undecided), *self._alike(missing, surplus))
        total = sum(entry.elements for entry in self.target.values())
        coverage = sum(self.target[name].elements for name in filled) / total if total else 0.0
        result = MatchResult(
            "ambiguous" if groups else "none" if coverage < LEAST_COVERAGE else "unique",
            [], tuple(links), groups, tuple(solver.decisions), _assumptions(links), missing, surplus, coverage,
        )  # fmt: skip
        return replace(result, rules=self.rules(solver)) if result.found else result

    def _alike(self, missing: Sequence[str], surplus: Sequence[str]) -> list[Ambiguity]:
        """Tensors without a partner on both sides that are alike in shape: what they are is open."""
        groups: list[Ambiguity] = []
        shapes = {name: squeezed(tuple(self.target[name].shape)) for name in missing if _floating(self.target[name])}
        for shape in dict.fromkeys(shapes.values()):
            rivals = [
                n for n in surplus if _floating(self.source[n]) and squeezed(tuple(self.source[n].shape)) == shape
            ]
            if rivals:
                groups.append(Ambiguity(tuple(rivals), tuple(name for name in shapes if shapes[name] == shape)))
        return groups


def _sources(entry: Link) -> list[str]:
    return list(entry.sources)


def _targets(entry: Link) -> list[str]:
    return [name for name in entry.targets if name]


def _floating(entry: Entry) -> bool:
    return entry.dtype.startswith(("F", "BF"))


def _ambiguity(group: Group) -> Ambiguity:
    return Ambiguity(tuple(item.path for item in group.sources), tuple(item.path for item in group.targets))


def _assumptions(links: Sequence[Link]) -> tuple[str, ...]:
    """What shapes cannot show: the order inside a tensor that the two sides cut or turn differently."""
    joined = [entry for entry in links if len(entry.sources) != len(entry.targets)]
    turned = [entry for entry in links if entry.turned]
    said = [(joined, "holds query, key and value one after the other"), (turned, "is the other's transpose")]
    return tuple(f"{entries[0].target} (and {len(entries) - 1} like it) {what}" for entries, what in said if entries)


def _proved(problem: _Problem, solved: Solver, prove: Prove, result: MatchResult) -> MatchResult:
    """The one answer, run."""
    if result.groups:
        return result
    proof = prove(result.rules)
    if proof.equal:
        return replace(result, status="proved", proof=proof)
    return replace(result, status="refuted", rules=[], candidate=result.rules, proof=proof)


def _settled(problem: _Problem, solved: Solver, prove: Prove) -> MatchResult:
    """Open groups tried in turn: a choice is kept where the networks agree longer with it than before."""
    choices: dict[Question, Choice] = {}
    best = prove(problem.rules(solved))
    proofs, asked = 1, set[Question]()
    while not best.equal and proofs < MAX_PROOFS and (group := _next_open(solved, asked)):
        asked.add(group.question)
        for choice in list(permutations(range(len(group.targets))))[1:]:
            tried = problem.solve({**choices, group.question: choice})
            proof = prove(problem.rules(tried))
            proofs += 1
            if proof.equal or proof.agreeing > best.agreeing:
                choices, best, solved = {**choices, group.question: choice}, proof, tried
    result = problem.result(solved)
    if not best.equal:
        return replace(result, status="ambiguous", rules=[], proof=best)
    return replace(result, status="proved", groups=(), rules=problem.rules(solved), proof=best)


def _next_open(solved: Solver, asked: set[Question]) -> Group | None:
    """The first group, in the target's order, that has not been tried and can be."""
    waiting = [g for g in solved.undecided if g.even and len(g.targets) <= MAX_ITEMS and g.question not in asked]
    return min(waiting, key=lambda group: min(item.place for item in group.targets), default=None)
