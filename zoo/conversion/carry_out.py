"""Converts a checkpoint: source, plan, stream, report. A plan that falls short is not carried out.

Importing this module does not import torch, and neither does a conversion that only renames or casts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zoo.conversion.stream import write
from zoo.errors import InputError, Problem, WorkError
from zoo.formats import Source, open_source
from zoo.formats.files import atomic_file, write_all
from zoo.remap.explain import advise
from zoo.remap.expression import Cast
from zoo.remap.plan import MIN_COVERAGE, Plan, Target, check_claims, make_plan
from zoo.remap.remaps import Match, Planned, Remap, classes_of, plan_source, resolve
from zoo.remap.rules import check_inverse, dump_rules, invert, parse_rules

_UNDESCRIBED = (
    "the source says which architecture it rebuilds, which is not true of the new layout and is left out; name the "
    "new architecture (--to) to have a file that zoo.load takes"
)

Describe = Callable[[Source, Planned], Mapping[str, str]]
Verify = Callable[[Source, Planned], Mapping[str, Any]]


@dataclass(frozen=True)
class Towards:
    """The architecture a conversion leads to: what is to be filled, and what the new file says about itself."""

    target: Target
    describe: Describe


@dataclass
class Conversion:
    """What a conversion decided and did. `problems` is empty where the plan was good enough."""

    source: str
    kind: str
    destination: str | None
    planned: Planned
    problems: list[Problem] = field(default_factory=list)
    written: Mapping[str, Any] = field(default_factory=dict)
    verification: Mapping[str, Any] | None = None

    @property
    def hints(self) -> list[str]:
        return advise(self.planned.plan)

    def as_dict(self) -> dict[str, Any]:
        """The document of `zoo convert --json`. `verified` is null where no `--verify` was asked for."""
        return {
            "source": self.source,
            "kind": self.kind,
            "destination": self.destination,
            "written": bool(self.written),
            "bytes": self.written.get("bytes"),
            **self.planned.plan.as_dict(),
            "rules": [rule.as_mapping() for rule in self.planned.rules],
            "notes": list(self.planned.notes),
            "problems": [problem.message for problem in self.problems],
            "hints": self.hints if self.problems else [],
            "verified": None if self.verification is None else bool(self.verification.get("equal")),
            "verification": self.verification,
        }

    def error(self) -> WorkError:
        """Why nothing was written, with hints."""
        head = Problem(f"{self.source} ({self.kind}) was not converted")
        return WorkError([head, *self.problems, *(Problem(f"hint: {hint}") for hint in self.hints)])


def convert(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str] | None,
    remap: Remap = None,
    *,
    towards: Towards | None = None,
    dtype: str | None = None,
    min_coverage: float | None = None,
    invert_rules: bool = False,
    dry_run: bool = False,
    write_rules: str | os.PathLike[str] | None = None,
    match: Match | None = None,
    verify: Verify | None = None,
    trust_pickle: bool = False,
    key: str | None = None,
    verify_bytes: bool = True,
) -> Conversion:
    """Write the safetensors file `destination` that `remap` makes of `source`, whole or not at all.

    Args:
        remap: rules, rule files, plugins' remaps, `auto`, inline rules, in order.
        towards: the architecture to fill; the file then rebuilds with `zoo.load`.
        dtype: cast floating-point tensors at the end.
        min_coverage: the least coverage (see `Plan.problems`), all without it.
        invert_rules: run the rules backwards.
        dry_run: plan only.
        write_rules: save the rules that were used or found as YAML.
        match: what finds rules for `auto`.
        verify: compares the networks at both ends before anything is written; returns a report with `equal`.
        trust_pickle, key: see `open_source`.
        verify_bytes: read the file back and compare it.

    The caller looks at `problems` of the result: where there are any, nothing was written.
    Raises InputError for what cannot be read, planned or written to, WorkError where carrying it out fails.
    """
    _check_destination(destination, dry_run)
    floor = MIN_COVERAGE if min_coverage is None else min_coverage  # without `towards` there is nothing to cover
    target = towards.target if towards else None
    with open_source(os.fspath(source), trust_pickle=trust_pickle, key=key) as opened:
        planned = _plan(opened, remap, target, invert_rules, match)
        planned = planned if dtype is None else _cast(planned, opened, target, dtype)
        where = None if destination is None else os.fspath(destination)
        if towards is None and "zoo" in opened.metadata and _relaid(planned.plan):
            planned = replace(planned, notes=(*planned.notes, _UNDESCRIBED))
        made = Conversion(opened.location, opened.kind, where, planned, planned.plan.problems(floor))
        if write_rules is not None:
            _write_text(Path(write_rules), dump_rules(planned.rules))
        if made.problems:
            return made
        if verify is not None:
            made.verification = verify(opened, planned)
            if not made.verification.get("equal"):
                made.problems.append(Problem(str(made.verification.get("message") or "the networks differ")))
        if destination is not None and not dry_run and not made.problems:
            check_claims(planned.plan, opened.array)
            header = towards.describe(opened, planned) if towards else _header(opened, planned.plan)
            made.written = write(planned.plan, opened, destination, metadata=header, verify_bytes=verify_bytes)
    return made


def _check_destination(destination: str | os.PathLike[str] | None, dry_run: bool) -> None:
    if destination is None and not dry_run:
        raise InputError("there is no destination", suggestion="name one, or plan only: --dry-run")
    if destination is not None and Path(destination).suffix in (".pth", ".pt", ".bin", ".ckpt", ".npz"):
        raise InputError(
            f"{destination}: zoo writes safetensors only, which every framework reads without running code",
            suggestion=str(Path(destination).with_suffix(".safetensors")),
        )


def _plan(source: Source, remap: Remap, target: Target | None, backwards: bool, match: Match | None) -> Planned:
    if not backwards:
        return plan_source(source, remap, target, match=match)
    if not remap:
        raise InputError("there are no rules to run backwards", suggestion="name them: --remap RULES")
    rules, notes = resolve(remap, source, None, match=_no_match)
    inverse = invert(rules)
    plan = make_plan(source.entries, inverse, target, aliases=source.aliases)
    if not plan.idle:
        check_inverse(rules, source.entries, source.aliases)
    return Planned(plan, tuple(inverse), (*source.notes, *notes))


_FIND_FIRST = "find them first: --remap auto --write-rules FILE, then --remap FILE --invert"


def _no_match(*_: Any) -> Any:
    raise InputError("what --remap auto finds cannot be inverted before it is found", suggestion=_FIND_FIRST)


def _cast(planned: Planned, source: Source, target: Target | None, dtype: str) -> Planned:
    rules = (*planned.rules, *parse_rules([{"cast": dtype}]))
    classes = classes_of(source.metadata)
    plan = make_plan(source.entries, rules, target, aliases=source.aliases, source_classes=classes)
    # That a file has no floating-point tensor to cast is no mistake in a rule.
    return replace(planned, rules=rules, plan=replace(plan, unused=planned.plan.unused, idle=planned.plan.idle))


def _header(source: Source, plan: Plan) -> dict[str, str]:
    """The source's own metadata, without zoo's description where the layout it speaks of is no more."""
    kept = {name: text for name, text in source.metadata.items() if name not in source.aliases}
    if _relaid(plan):
        kept.pop("zoo", None)
    ties = {} if "zoo" in kept else plan.ties
    return {"format": "pt", **kept, **ties}


def _relaid(plan: Plan) -> bool:
    """Whether names or shapes are others than the source's, or fewer."""
    return bool(plan.dropped) or any(
        move.sources != (move.target,) or any(not isinstance(step, Cast) for step in move.operations)
        for move in plan.moves
    )


def _write_text(path: Path, text: str) -> None:
    with atomic_file(path) as descriptor:
        write_all(descriptor, text.encode(), 0)


def origin(source: Source) -> dict[str, str]:
    """Where a converted checkpoint came from: the address or file name, what it was, and its digest."""
    name = source.location if "://" in source.location else Path(source.location).name
    return {"name": name, "kind": source.kind, "sha256": source.sha256()}
