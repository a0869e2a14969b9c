"""Loads a checkpoint into a model through a plan: what fits goes in, what does not is reported, never passed over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from zoo.checkpoint.advice import advise
from zoo.checkpoint.claims import check_claims
from zoo.checkpoint.expression import evaluate
from zoo.checkpoint.filling import fill, left_on_meta, target_of
from zoo.checkpoint.moves import Mismatch, Target
from zoo.checkpoint.plan import MIN_COVERAGE, Plan, make_plan
from zoo.checkpoint.remaps import Planned, Remap, plan_source
from zoo.checkpoint.rendering import render
from zoo.checkpoint.rules import Rule
from zoo.checkpoint.sources import Source, open_source
from zoo.checkpoint.tensors import entry, to_array, to_tensor
from zoo.errors import InputError, Problem, WorkError

Convert = Callable[[dict[str, Any], nn.Module], dict[str, Any]]


@dataclass(frozen=True)
class LoadReport:
    """What a load did. `kind` says what the file is; `notes` what was decided on the way.

    Everything in `missing` kept the values it had: of a freshly built model these are its initial ones.
    """

    location: str
    kind: str
    plan: Plan
    rules: tuple[Rule, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def coverage(self) -> float:
        """The share of the model's parameters that was filled, by element count."""
        return self.plan.coverage or 0.0

    @property
    def buffer_coverage(self) -> float:
        return self.plan.buffer_coverage or 0.0

    @property
    def loaded(self) -> tuple[str, ...]:
        return tuple(sorted(self.plan.filled))

    @property
    def missing(self) -> tuple[str, ...]:
        return self.plan.missing

    @property
    def unexpected(self) -> tuple[str, ...]:
        return tuple(self.plan.unexpected)

    @property
    def mismatched(self) -> tuple[Mismatch, ...]:
        return self.plan.mismatched

    def as_dict(self) -> dict[str, Any]:
        plan = self.plan.as_dict()
        return {"location": self.location, "kind": self.kind, "notes": list(self.notes), **plan}

    def render(self, *, verbose: bool = False) -> str:
        head = [f"{self.location}: {self.kind}", *(f"note: {note}" for note in self.notes)]
        return "\n".join([*head, render(self.plan, verbose=verbose)])


def load_into(
    model: nn.Module,
    location: str | Path,
    remap: Remap = None,
    *,
    min_coverage: float = MIN_COVERAGE,
    strict_shapes: bool = True,
    ignore: Iterable[str] = (),
    classes: Sequence[str] = (),
    trust_pickle: bool = False,
    key: str | None = None,
    sha256: str | None = None,
    convert: Convert | None = None,
) -> LoadReport:
    """Fill `model` from the checkpoint at `location`, in the model's dtypes and on its devices.

    Args:
        remap: rules, a rule file, a plugin's remap, `auto`, an inline `OLD=NEW`, or a list of these.
        min_coverage: the least share, by element count, of the model's parameters and of its floating-point buffers
            to be filled, and of the file to be used (what a rule drops does not count).
        strict_shapes: whether a tensor of the right name and another shape is an error; else it is left out.
        ignore: module paths (a head about to be swapped) that need not be filled and are not counted.
        classes: the model's class names by row, for `adapt_classes`.
        trust_pickle, key, sha256: see `open_source`.
        convert: what an upstream library does to a state dict after `remap` (see `zoo.api.Weights`).

    Raises InputError for what cannot be read or does not fit together, and WorkError where less would be loaded than
    asked for, with the likely cause. The model is then as it was.
    """
    target = target_of(model, ignored=ignore, classes=classes)
    with open_source(location, trust_pickle=trust_pickle, key=key, sha256=sha256) as source:
        if convert is None:
            planned = plan_source(source, remap, target)
            read: Callable[[str], Any] = source.array
        else:
            planned, read = _converted(source, remap, convert, model, target)
        report = LoadReport(source.location, source.kind, planned.plan, planned.rules, planned.notes)
        check(report, min_coverage, strict_shapes=strict_shapes)
        check_claims(planned.plan, read)
        fill(model, planned.plan, read)
    if empty := left_on_meta(model):
        raise WorkError(f"{len(empty)} tensors of the model have no values: {', '.join(empty[:5])}")
    return report


def check(report: LoadReport, min_coverage: float, *, strict_shapes: bool = True) -> None:
    """Raises WorkError, with the report's hints, where the plan falls short of what is asked for."""
    problems = report.plan.problems(min_coverage)
    target = report.plan.target
    odd = [row for row in report.plan.mismatched if target is None or not target.ignores(row.name)]
    if strict_shapes:
        problems += [
            Problem(f"{row.name} is {list(row.shape)} in the file and {list(row.target_shape)} in the model")
            for row in odd[:5]
        ]
        if len(odd) > 5:
            problems.append(Problem(f"and {len(odd) - 5} more tensors have other shapes"))
    if problems:
        hints = [Problem(f"hint: {hint}") for hint in advise(report.plan)]
        raise WorkError([Problem(f"{report.location} ({report.kind}) does not fill the model"), *problems, *hints])


def _converted(
    source: Source, remap: Remap, convert: Convert, model: nn.Module, target: Target
) -> tuple[Planned, Callable[[str], Any]]:
    """The plan for what `convert` makes of the remapped state dict, which has to be in memory for that."""
    before = plan_source(source, remap)
    state = {move.target: to_tensor(evaluate(move.value, source.array), move.dtype) for move in before.plan.moves}
    state |= {alias: state[name] for alias, name in before.plan.ties.items()}
    try:
        made = convert(state, model)
    except Exception as error:
        raise InputError(
            f"{source.location} is not what its converter expects: {type(error).__name__}: {error}"
        ) from error
    arrays = {name: to_array(tensor) for name, tensor in made.items()}
    plan = make_plan({name: entry(name, tensor) for name, tensor in made.items()}, (), target)
    return Planned(plan, before.rules, before.notes), arrays.__getitem__
