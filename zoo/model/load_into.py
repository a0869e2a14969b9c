"""Loads weights into any model through a plan: what fits goes in, what does not is reported, never passed over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from zoo.errors import InputError, Problem, WorkError, first_problems, listed
from zoo.formats import Source, open_source
from zoo.formats.checkpoint_metadata import CheckpointMetadata, record_of
from zoo.formats.tensors import entry, to_array, to_tensor
from zoo.model.info import info_of
from zoo.model.input_fit import InputFit
from zoo.remap.advice import advise
from zoo.remap.explain import render
from zoo.remap.expression import evaluate
from zoo.remap.plan import MIN_COVERAGE, Mismatch, Plan, Target, check_equal, make_plan
from zoo.remap.remaps import Planned, Remap, items, plan_rules, plan_source
from zoo.remap.rules import Rule
from zoo.remap.rules.base import AUTO

if TYPE_CHECKING:
    import numpy as np

    Read = Callable[[str], np.ndarray[Any, Any]]


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of the model's state dict themselves, not copies; tied ones are one object under several names."""
    state = model.state_dict(keep_vars=True)
    if lazy := [name for name, value in state.items() if is_lazy(value)]:
        raise InputError(f"{lazy[0]!r} has no shape yet", suggestion="run a batch through the model first")
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


def target_of(model: nn.Module, *, ignored: Iterable[str] = (), classes: Sequence[str] = ()) -> Target:
    """What a plan may fill in `model`. `ignored` are module paths that need not be; works on `meta` too."""
    state = state_of(model)
    first: dict[int, str] = {}
    tied = {name: first[id(value)] for name, value in state.items() if first.setdefault(id(value), name) != name}
    return Target(
        entries={name: entry(name, value) for name, value in state.items()},
        parameters=frozenset(name for name, value in state.items() if isinstance(value, nn.Parameter)),
        tied=tied,
        ignored=tuple(ignored),
        classes=tuple(classes),
    )


def fill(model: nn.Module, plan: Plan, read: Read, *, staged: bool = True) -> None:
    """Give the model the plan's tensors, in its own dtypes and on its own devices.

    `staged` reads everything before the first tensor is written, so that a failure leaves the model as it was; without
    it, and on `meta`, where there is nothing to lose, it goes one tensor at a time. Tensors on `meta` come to the CPU.
    Raises WorkError where the state dict names what is neither parameter nor buffer of a module.
    """
    state = state_of(model)
    made: Iterable[tuple[str, torch.Tensor]] = (
        (move.target, to_tensor(evaluate(move.value, read), move.dtype)) for move in plan.moves
    )
    if staged and not any(value.is_meta for value in state.values()):
        made = list(made)
    holders = _holders(model)
    with torch.no_grad():
        for name, tensor in made:
            _put(name, state[name], tensor, holders)


Holder = tuple[dict[str, Any], str]


def _holders(model: nn.Module) -> dict[int, list[Holder]]:
    """For each parameter and buffer, by identity, the places in modules that contain it."""
    holders: dict[int, list[Holder]] = {}
    for module in model.modules():
        for table in (module._parameters, module._buffers):
            for key, value in table.items():
                holders.setdefault(id(value), []).append((table, key))
    return holders


def _put(name: str, old: torch.Tensor, new: torch.Tensor, holders: dict[int, list[Holder]]) -> None:
    if not old.is_meta:
        old.copy_(new)
        return
    if id(old) not in holders:
        raise WorkError(f"{name!r} is in the state dict, but no module contains it as a parameter or buffer")
    value = new.to(old.dtype)
    made = nn.Parameter(value, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else value
    for table, key in holders[id(old)]:
        table[key] = made


def left_on_meta(model: nn.Module) -> list[str]:
    """Names of parameters and buffers that have no values: on `meta`, persistent or not."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return [name for name, value in tensors if value.is_meta]


Convert = Callable[[dict[str, Any], nn.Module], dict[str, Any]]


@dataclass(frozen=True)
class LoadReport:
    """What a load did. `kind` says what the file is; `notes` what was decided on the way; `adapted` what was resampled
    for another input; `record` is what a zoo checkpoint says of itself.

    Everything in `missing` kept the values it had: of a freshly built model these are its initial ones.
    """

    location: str
    kind: str
    plan: Plan
    rules: tuple[Rule, ...] = ()
    notes: tuple[str, ...] = ()
    adapted: tuple[str, ...] = ()
    record: CheckpointMetadata | None = None

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
        return {"location": self.location, "kind": self.kind, "notes": [*self.notes, *self.adapted], **plan}

    def __str__(self) -> str:
        """In a line what came of it; `render()` names the tensors."""
        counts = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": self.mismatched}
        told = "".join(f", {len(names)} {what}" for what, names in counts.items() if names)
        return f"{self.location}: {len(self.plan.filled)} tensors loaded, {self.coverage:.1%} of the parameters{told}"

    __repr__ = __str__

    def render(self, *, verbose: bool = False) -> str:
        head = [f"{self.location}: {self.kind}", *(f"note: {note}" for note in (*self.notes, *self.adapted))]
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
    planned: Planned | None = None,
    fit: InputFit | None = None,
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
        planned: the plan that the same remap led to before; it is made anew where the file or the model has changed.
        fit: adapt what is of another shape because the model takes images of another size or with other channels.

    Raises InputError for what cannot be read or does not fit together, and WorkError where less would be loaded than
    asked for, with the likely cause. The model is then as it was.
    """
    target = target_of(model, ignored=ignore, classes=classes)
    with open_source(location, trust_pickle=trust_pickle, key=key, sha256=sha256) as source:
        record = record_of(source)
        if convert is None or record is not None:  # a zoo checkpoint is in the model's own layout
            if planned is None or not planned.fits(source, target):
                planned = fitted(plan_source(source, remap, target), source, target, fit)
            read: Callable[[str], Any] = source.array
        else:
            planned, read = _converted(source, remap, convert, model, target, fit)
        _check_architecture(model, record, remap)
        report = LoadReport(
            source.location, source.kind, planned.plan, planned.rules, planned.notes, planned.adapted, record
        )
        check(report, min_coverage, strict_shapes=strict_shapes)
        check_equal(planned.plan, read)
        fill(model, planned.plan, read)
    if empty := left_on_meta(model):
        raise WorkError(f"{len(empty)} tensors of the model have no values: {listed(empty)}")
    return report


def fitted(planned: Planned, source: Source, target: Target, fit: InputFit | None) -> Planned:
    """The plan with what `fit` adapts."""
    return planned if fit is None else fit.fitted(planned, lambda rules: plan_rules(source, rules, target))


def _check_architecture(model: nn.Module, record: CheckpointMetadata | None, remap: Remap) -> None:
    """Raises InputError where a file says that it is of another architecture than zoo built the model by, and no rules
    of the user's lead from one to the other."""
    info = info_of(model)
    if record is None or info is None or any(item != AUTO for item in items(remap)):
        return
    if record.architecture != info.architecture:
        message = (
            f"the file is of {record.architecture}; in {info.architecture} it gives wrong answers even where it fits"
        )
        raise InputError(
            message, suggestion=f"zoo.load(PATH), or a remap with the rules that lead to {info.architecture}"
        )


def check(report: LoadReport, min_coverage: float, *, strict_shapes: bool = True) -> None:
    """Raises WorkError, with the report's hints, where the plan falls short of what is asked for."""
    problems = report.plan.problems(min_coverage)
    target = report.plan.target
    odd = [row for row in report.plan.mismatched if target is None or not target.ignores(row.name)]
    if strict_shapes:
        rows = [
            Problem(f"{row.name} is {list(row.shape)} in the file and {list(row.target_shape)} in the model")
            for row in odd
        ]
        problems += first_problems(rows, 5)
    if problems:
        hints = [Problem(f"hint: {hint}") for hint in advise(report.plan)]
        raise WorkError([Problem(f"{report.location} ({report.kind}) does not fill the model"), *problems, *hints])


def _converted(
    source: Source, remap: Remap, convert: Convert, model: nn.Module, target: Target, fit: InputFit | None
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
    entries = {name: entry(name, tensor) for name, tensor in made.items()}
    planned = Planned(make_plan(entries, (), target), (), ())
    if fit is not None:
        planned = fit.fitted(planned, lambda rules: make_plan(entries, rules, target))
    adapted = (*_changed_shapes(state, made), *planned.adapted)
    return Planned(planned.plan, (*before.rules, *planned.rules), before.notes, adapted), arrays.__getitem__


def _changed_shapes(before: Mapping[str, torch.Tensor], after: Mapping[str, Any]) -> Iterator[str]:
    """What a library's own code resampled."""
    for name in before.keys() & after.keys():
        old, new = list(before[name].shape), list(after[name].shape)
        if old != new and "pos" in name:
            yield f"{name} resampled {old} -> {new} by the library's own code"
