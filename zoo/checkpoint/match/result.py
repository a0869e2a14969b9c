"""What came of matching: the rules and why they are right, or what stands in the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from zoo.checkpoint.match.layout import RuleMapping
from zoo.checkpoint.match.links import Link
from zoo.checkpoint.match.order import blank
from zoo.checkpoint.match.solver import Decision
from zoo.errors import Problem, WorkError, any_of

Status = Literal["proved", "unique", "ambiguous", "refuted", "none"]
SHOWN = 6  # names of a group that a message lists


@dataclass(frozen=True)
class Proof:
    """What running both networks showed, the target with the source's weights moved by the rules.

    Attributes:
        equal: the outputs agree within rounding.
        error: largest difference of the outputs, relative to their size.
        agreeing: how many modules, in the target's order of execution, agree before the first that does not.
        text: for people: on what, how far, and where they part if they do.
        unseen: parameters of the target that do not show in the outputs, so that nothing was proved of them.
    """

    equal: bool
    error: float
    agreeing: int
    text: str
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ambiguity:
    """Paths that correspond in a way that is not certain; `what` is open."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    what: str = "which is which is open"

    def __str__(self) -> str:
        return f"{_some(self.sources)} -> {_some(self.targets)}: {self.what}"


def _some(names: Sequence[str]) -> str:
    more = f", … {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return "{" + ", ".join(names[:SHOWN]) + more + "}"


@dataclass(frozen=True)
class MatchResult:
    """The answer to "which tensor is which".

    `status` is
        proved      running both networks gave the same outputs with every parameter random
        unique      evidence that does not contradict itself leaves one answer; nothing was run
        ambiguous   several answers are left; `groups` names them, and there are no rules
        refuted     evidence left one answer, but the networks do not compute the same with it; no rules
        none        the key sets have too little in common; no rules

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

    def answer(self, fitting: Callable[[], Sequence[str]] = tuple) -> list[RuleMapping]:
        """The rules. Raises WorkError that says why there are none, and what would help.

        `fitting` finds the names of remaps that would do.
        """
        if self.found:
            return self.rules
        hint = "name both architectures (--from, --to), so that they can be run"
        if remaps := fitting():
            hint = f"an installed remap fits: --remap {any_of(remaps)}"
        elif self.proof:
            hint = "write the rules yourself (docs/remap.md); the proof says where the networks part"
        raise WorkError([Problem(f"--remap auto: {self.notes[0]}", None, hint), *map(Problem, self.notes[1:])])

    def render(self) -> str:
        return "\n".join(self.notes)

    @property
    def notes(self) -> list[str]:
        """The certificate, or the reasons to abstain, as lines for a person."""
        lines = [_VERDICTS[self.status]]
        if self.status != "none":
            fits = len(self.mapping)
            lines.append(f"{fits} of {fits + len(self.missing)} tensors of the target have a source")
        if self.decisions:
            reasons = ", ".join(f"{reason} ({count})" for reason, count in self.evidence.items())
            lines.append(f"groups alike in shape were told apart by: {reasons}")
        if self.proof:
            lines.append(self.proof.text)
        lines += [f"assumed: {assumption}" for assumption in self.assumptions if self.status == "unique"]
        lines += [f"not certain: {group}{more}" for group, more in self._questions()]
        for names, what in ((self.missing, "no source for"), (self.surplus, "no place for")):
            lines += [f"{what}: {_some(names)}"] if names else []
        return lines

    def _questions(self) -> list[tuple[Ambiguity, str]]:
        """The groups, those that ask the same in several blocks once, with how many more there are."""
        alike: dict[tuple[str, ...], list[Ambiguity]] = {}
        for group in self.groups:
            alike.setdefault(tuple(map(blank, (*group.sources, *group.targets))), []).append(group)
        return [(same[0], f" (and {len(same) - 1} like it)" * (len(same) > 1)) for same in alike.values()]


_VERDICTS = {
    "proved": "proved: both networks give the same outputs with every parameter random",
    "unique": "unique: one answer is left and nothing speaks against it (name both architectures to have it proved)",
    "ambiguous": "ambiguous: more than one answer is left, so none is given",
    "refuted": "refuted: the only answer that names, shapes and order leave does not make the networks agree",
    "none": "no answer: the two key sets have too little in common",
}
