"""The checkpoints that `zoo merge` averages: brought into one layout, with one order of classes, from one base."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from zoo.checkpoint.load import load
from zoo.errors import InputError, Problem, WorkError, ZooError, listed
from zoo.formats import Source, open_source
from zoo.formats.checkpoint_metadata import CheckpointMetadata, record_of
from zoo.formats.tensors import to_tensor
from zoo.model.assembly import Assembly
from zoo.model.build import build, rebuild
from zoo.model.heads import heads_if_any
from zoo.model.load_into import LoadReport, check, state_of, target_of
from zoo.model.undisturbed import generators_kept
from zoo.remap.expression import evaluate
from zoo.remap.plan import MIN_COVERAGE, Target, check_equal
from zoo.remap.remaps import Planned, Remap, fitting_remaps, plan_source
from zoo.remap.rules.adapt import plain
from zoo.remap.rules.base import AUTO

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Member:
    """One checkpoint in the layout of the result, but for the rows of its head.

    `base` is the sha256 of the weights that it was fine-tuned from, where it says so. `notes` say how it was read.
    """

    path: str
    sha256: str
    state: State
    classes: tuple[str, ...]
    record: CheckpointMetadata | None
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.path if "://" in self.path else Path(self.path).name

    @property
    def base(self) -> str | None:
        base = self.record.base_weights if self.record else None
        return base.sha256 if base else None

    @property
    def identities(self) -> set[str]:
        """The digests under which others may name it as their base: its own, and that of the file it is made of."""
        origin = (self.record.converted_from or {}) if self.record else {}
        return {self.sha256, str(origin.get("sha256"))}


def read_members(
    paths: Sequence[str | os.PathLike[str]],
    to: str | None = None,
    to_arguments: Mapping[str, Any] | None = None,
    remap: Remap = None,
) -> tuple[dict[str, Any], list[Member]]:
    """What describes the result (as a checkpoint's metadata do, for `rebuild`), and the members in its layout.

    The first zoo checkpoint describes it, or `to`, an architecture. A file in another layout goes through `remap`, or
    else through the rules that `auto` finds.

    Raises InputError where nothing says what the architecture is or where checkpoints do not belong together, WorkError
    for a file that does not fill it.
    """
    texts = [os.fspath(path) for path in paths]
    records = [_record(text) for text in texts]
    described = _described(texts, records, to, to_arguments)
    outline = rebuild(described, device="cpu")
    members = []
    for text, record in zip(texts, records, strict=True):
        if record is not None and _is_same(record.model_dump(), described):
            members.append(_loaded(text, record))
        else:
            members.append(_remapped(text, record, outline, remap))
    _check_bases(members)
    _check_preprocessing(members)
    return described, members


def _record(path: str) -> CheckpointMetadata | None:
    with open_source(path) as source:
        return record_of(source)


def _described(
    paths: Sequence[str],
    records: Sequence[CheckpointMetadata | None],
    to: str | None,
    to_arguments: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The first checkpoint's own description where it is of `to`, else that of `to` as it is built."""
    built = None if to is None else build(to, to_arguments, device="meta")
    for record in records:
        if record is not None and (built is None or (record.architecture == built.architecture and not to_arguments)):
            return record.model_dump()
    if built is None:
        raise InputError(
            f"none of {listed(paths)} says which architecture it is of", suggestion="name it: --to ARCHITECTURE"
        )
    return {
        "architecture": built.architecture,
        "arguments": built.arguments,
        "preprocessing": built.preprocessing.as_dict(),
    }


def _is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two descriptions build the same network, but for its number of classes."""
    return bool(_structure(one) == _structure(other))


def _structure(described: Mapping[str, Any]) -> Any:
    arguments = {key: value for key, value in (described.get("arguments") or {}).items() if key != "num_classes"}
    operations = [
        (row["surgery"], {key: value for key, value in row["arguments"].items() if key != "num_classes"})
        for row in described.get("operations") or []
    ]
    return described["architecture"], arguments, operations


def with_outputs(described: Mapping[str, Any], outputs: int) -> dict[str, Any]:
    """The same network with another number of classes: that of its last new head, or of the architecture's own."""
    operations = [{**row, "arguments": dict(row["arguments"])} for row in described.get("operations") or []]
    for row in reversed(operations):
        if "num_classes" in row["arguments"]:
            row["arguments"]["num_classes"] = outputs
            return {**described, "operations": operations}
    return {**described, "arguments": {**(described.get("arguments") or {}), "num_classes": outputs}}


def _loaded(path: str, record: CheckpointMetadata) -> Member:
    with open_source(path) as source:
        digest = source.sha256()
    return Member(path, digest, dict(state_of(load(path).model)), tuple(record.classes), record)


def _remapped(path: str, record: CheckpointMetadata | None, outline: Assembly, remap: Remap) -> Member:
    """A file in another layout, carried into that of `outline` through a plan.

    Raises InputError for a checkpoint that says it is of another architecture, unless there are rules that lead there.
    """
    if record is not None and record.architecture != outline.architecture and not remap:
        raise InputError(
            f"{path} is of {record.architecture}, the others are of {outline.architecture}, in which it gives wrong "
            "answers even where it fits",
            suggestion="name the rules that lead from one to the other: --remap RULES",
        )
    target = target_of(outline.model)
    with open_source(path) as source:
        planned = _planned(source, remap, target)
        check(LoadReport(path, source.kind, planned.plan, planned.rules, planned.notes), MIN_COVERAGE)
        check_equal(planned.plan, source.array)
        state = dict(state_of(outline.model))  # counters and tables that the file lacks are computed
        for move in planned.plan.moves:
            state[move.target] = to_tensor(evaluate(move.value, source.array), move.dtype)
        state |= {alias: state[name] for alias, name in planned.plan.ties.items()}
        classes = tuple(record.classes) if record else ()
        return Member(path, source.sha256(), state, classes, record, planned.notes)


def _planned(source: Source, remap: Remap, target: Target) -> Planned:
    """The plan by the rules given; without any by the names, by `auto`, or by an installed remap that fits exactly."""
    if remap:
        return plan_source(source, remap, target)
    with suppress(ZooError):
        if not (planned := plan_source(source, None, target)).plan.problems():
            return planned
    try:
        return plan_source(source, AUTO, target)
    except WorkError:
        for name in fitting_remaps(source.entries, target.entries):
            return plan_source(source, name, target)
        raise


def _check_bases(members: Sequence[Member]) -> None:
    """Raises InputError where members say that they were fine-tuned from other weights."""
    bases: dict[str, Member] = {}
    for member in members:
        if member.base is not None:
            bases.setdefault(member.base, member)
    kept = [base for base in bases if not any(base in other.identities for other in members)]
    if len(kept) > 1 or (kept and len(bases) > 1):
        rows = [
            f"{member.name} from {member.record.base_weights.name} ({base[:8]})"
            for base, member in bases.items()
            if member.record and member.record.base_weights
        ]
        raise InputError(
            f"the members were fine-tuned from other weights: {'; '.join(rows)}. Averages of such networks compute "
            "nothing sensible",
            suggestion="merge checkpoints of one base; of these, keep the one that zoo evaluate finds better",
        )


def unknown_bases(members: Sequence[Member]) -> list[str]:
    """Names of members of which it is not known whether they have the base of the others."""
    bases = {member.base for member in members if member.base is not None}
    return [m.name for m in members if m.base is None and not bases & m.identities]


def _check_preprocessing(members: Sequence[Member]) -> None:
    """Raises InputError where members take images with other values: their first layers then speak of other things."""
    known = [
        (member, member.record.preprocessing)
        for member in members
        if member.record is not None and member.record.preprocessing is not None
    ]
    problems = [
        Problem(
            f"{member.name} takes images with mean {told.mean} and std {told.std}, {known[0][0].name} with mean "
            f"{known[0][1].mean} and std {known[0][1].std}"
        )
        for member, told in known[1:]
        if (told.mean, told.std, told.channels) != (known[0][1].mean, known[0][1].std, known[0][1].channels)
    ]
    if problems:
        raise InputError([*problems, Problem("an average of their weights suits neither")])


# Classes: heads joined by label.


@dataclass(frozen=True)
class Labels:
    """The classes of the result, and for each member the row of its own head for each of them (-1 where it has none).

    `rows` is None where all members have the same classes in the same order, and rows are averaged as they are.
    """

    classes: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...] | None

    @classmethod
    def joined(cls, members: Sequence[Member]) -> Labels:
        """Every label of a member, in the order of the first one that has it; labels agree as for `adapt_classes`.

        Raises InputError where the members' classes differ and one of them does not say what its rows stand for.
        """
        known = [member.classes for member in members]
        first = next((classes for classes in known if classes), ())
        if all([*map(plain, classes)] == [*map(plain, first)] for classes in known if classes):
            return cls(first, None)
        if silent := [member.name for member in members if not member.classes]:
            raise InputError(
                f"{listed(silent)} does not say its classes, and those of the others differ from one another",
                suggestion="convert it with its classes first: --remap 'adapt_classes: {match: …, from: […], to: […]}'",
            )
        labels: dict[str, str] = {}
        for classes in known:
            for label in classes:
                labels.setdefault(plain(label), label)
        places = [{plain(label): row for row, label in enumerate(classes)} for classes in known]
        return cls(tuple(labels.values()), tuple(tuple(row.get(label, -1) for label in labels) for row in places))


def with_rows(members: Sequence[Member], labels: Labels, model: torch.nn.Module) -> list[Member]:
    """The members with the rows of their heads in the order of `labels`; rows that a member lacks are NaN.

    `model` is the result's network. Raises InputError where the head's rows are not one a class.
    """
    if labels.rows is None:
        return list(members)
    wanted = state_of(model)
    made = []
    for member, rows in zip(members, labels.rows, strict=True):
        state, found = dict(member.state), _row_tensors(model, len(labels.classes))
        index = torch.tensor(rows)
        for name in found:
            value = state[name]
            if value.shape[0] != len(member.classes):
                raise InputError(f"{member.name}: {name} has {value.shape[0]} rows for {len(member.classes)} classes")
            picked = value[index.clamp_min(0)].clone()
            picked[index < 0] = torch.nan
            state[name] = picked
        if odd := [name for name, value in state.items() if value.shape != wanted[name].shape]:
            raise InputError(f"{member.name} differs from the others in the shape of {listed(odd)}")
        made.append(replace(member, state=state))
    return made


def _row_tensors(model: torch.nn.Module, outputs: int) -> list[str]:
    """The tensors of the last layer of each head: one row a class."""
    found = []
    for head in heads_if_any(model):
        inside = [name for name in state_of(model) if name.startswith(f"{head}.") or name == head]
        rows = [name for name in inside if (shape := state_of(model)[name].shape) and shape[0] == outputs]
        last = rows[-1].rpartition(".")[0] if rows else ""
        found += [name for name in rows if name.rpartition(".")[0] == last]
    if not found:
        raise InputError("the members' classes differ, and it is not known which of their tensors has a row a class")
    return found


def outline_of(described: Mapping[str, Any], labels: Labels) -> Assembly:
    """The result's network, its parameters still without sensible values."""
    wanted = described if labels.rows is None else with_outputs(described, len(labels.classes))
    with generators_kept():
        assembly = rebuild(wanted, device="cpu")
    assembly.classes = labels.classes
    return assembly
