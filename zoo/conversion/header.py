"""What the header of a converted file says: of the network that it fills, or what the source's header said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.conversion.destination import CONVERT, MADE_BY
from zoo.formats import Source
from zoo.formats.entry import Entry
from zoo.remap.expression import Cast
from zoo.remap.plan import Plan
from zoo.remap.rules import Rule
from zoo.remap.rules.adapt import AdaptClassesRule

if TYPE_CHECKING:
    from zoo.conversion.convert import Network
    from zoo.model.assembly import Assembly


def metadata(source: Source, plan: Plan, described: Assembly | None, destination: str) -> dict[str, str]:
    """What the header of the file says: of the architecture that it fills, or what the source's said."""
    if described is None:
        kept = _carried_over(source, plan, destination)
    else:
        kept = _encoded(source, plan, described, destination)
    return kept | {MADE_BY: CONVERT}


def describe(source: Source, rules: tuple[Rule, ...], end: Network) -> tuple[Assembly, list[str]]:
    """What the new checkpoint says of the network at the end, and remarks on what it takes over from the source.

    A zoo checkpoint goes on being prepared as it was, and keeps its classes, task and data.
    """
    from zoo.checkpoint.data_folder import as_loaded
    from zoo.formats.checkpoint_metadata import record_of
    from zoo.model.preprocessing import differences, for_arguments

    chosen = [rule.to for rule in rules if isinstance(rule, AdaptClassesRule) and rule.to]
    record, outline, notes = record_of(source), end.outline, []
    if record is None:
        return replace(outline, classes=chosen[-1] if chosen else ()), []
    if record.architecture != outline.architecture:
        notes.append(
            f"the source says that it is of {record.architecture}: whether {outline.architecture} computes the same is "
            f"not known; compare them: --from {record.architecture} --verify"
        )
    classes = chosen[-1] if chosen else tuple(record.classes)
    thresholds = {name: value for name, value in record.thresholds.items() if name in classes or not classes}
    known = replace(
        outline,
        classes=classes,
        task=record.task,
        data=as_loaded(record.data, source.location),
        thresholds=thresholds,
    )
    if classes and not _fits_head(known):
        notes.append(f"the source's {len(classes)} classes are left out: {outline.architecture} has another head")
        known = replace(known, classes=(), data=None, thresholds={})
    if record.preprocessing is not None:
        prepared = for_arguments(record.preprocessing.as_contract(), end.arguments)
        odd = differences(prepared, outline.preprocessing)
        if prepared.channels != outline.preprocessing.channels:
            notes.append(f"images are prepared as {outline.architecture} says, not as for the source: {'; '.join(odd)}")
        else:
            notes += [f"images go on being prepared as for the source: {'; '.join(odd)}"] if odd else []
            known.preprocessing = prepared
    return known, notes


def _fits_head(assembly: Assembly) -> bool:
    """Whether every head gives an output a class; where no head is found nothing speaks against it."""
    from zoo.model.heads import heads_if_any, out_width
    from zoo.model.paths import get_module

    widths = {out_width(get_module(assembly.model, path)) for path in heads_if_any(assembly.model)}
    return not widths or widths == {len(assembly.classes)}


def _encoded(source: Source, plan: Plan, described: Assembly, destination: str) -> dict[str, str]:
    """The metadata of a zoo checkpoint of the architecture that the file fills."""
    from zoo.checkpoint import save
    from zoo.checkpoint.data_folder import as_stored
    from zoo.formats.checkpoint_metadata import encode

    name = source.location if "://" in source.location else Path(source.location).name
    origin = {"name": name, "kind": source.kind, "sha256": source.sha256()}
    own = {"converted_from": origin, "data": as_stored(described.data, destination)}
    return encode(save.describe(described, tied=plan.ties).model_copy(update=own), _entries(plan))


def _entries(plan: Plan) -> list[Entry]:
    """The tensors that are written."""
    return [Entry(move.target, move.dtype, move.shape) for move in plan.moves]


def _carried_over(source: Source, plan: Plan, destination: str) -> dict[str, str]:
    """The source's own metadata, without zoo's description where the layout it speaks of is no more."""
    from zoo.checkpoint.data_folder import as_loaded, as_stored
    from zoo.formats.checkpoint_metadata import encode, record_of

    kept = {name: text for name, text in source.metadata.items() if name not in source.aliases}
    if is_relaid(plan):
        kept.pop("zoo", None)
    elif (record := record_of(source)) is not None:
        if any(move.operations for move in plan.moves):  # other values: what was measured was not of these
            spec = {key: value for key, value in (record.evaluation or {}).items() if key in ("loss", "metrics")}
            cleared = {"tensor_digests": {}, "metrics": {}, "evaluation": spec or None}
            record = record.model_copy(update=cleared)
        data = as_stored(as_loaded(record.data, source.location), destination)
        kept |= encode(record.model_copy(update={"data": data}), _entries(plan))
    ties = {} if "zoo" in kept else plan.ties
    return {"format": "pt", **kept, **ties}


def is_relaid(plan: Plan) -> bool:
    """Whether names or shapes differ from the source's, or tensors are dropped."""
    return bool(plan.dropped) or any(
        move.sources != (move.target,) or any(not isinstance(step, Cast) for step in move.operations)
        for move in plan.moves
    )
