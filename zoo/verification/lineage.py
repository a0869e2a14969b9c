"""Checks of what a checkpoint was made of: the frozen tensors' bits, the base weights, what they fill."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from zoo import registry
from zoo.checkpoint.load import base_candidates, loaded_base, replay_on_base
from zoo.errors import ZooError, listed
from zoo.finetuning.tables import train_stages
from zoo.formats.checkpoint_metadata import DIGITS
from zoo.formats.remote import fetched
from zoo.formats.tensors import NAMES
from zoo.model.freezing import tensor_sha256
from zoo.model.load_into import LoadReport, state_of
from zoo.model.pretrained import digest
from zoo.model.undisturbed import generators_kept
from zoo.verification.rows import Rows
from zoo.verification.subject import Subject

WRITES_NOTHING = (  # nothing that is frozen, that is
    *("train", "finetune_from_probe", "freeze", "evaluate", "look", "save", "probe", "thresholds"),
)
FROZEN, BASE, COVERAGE = "frozen tensors", "base weights", "coverage"
UNMOVED = "frozen tensors and base weights"


def check_frozen(subject: Subject, rows: Rows) -> None:
    """What was frozen in the last train step has the bits that were compared before and after it."""
    trained = train_stages(subject.stages)
    if not trained:
        return
    last, proof = trained[-1], trained[-1]["freeze_proof"]
    if proof is None:
        rows.skip(FROZEN, "the last train step ended early, before what is frozen was compared")
        return
    if not proof["tensors"]:
        return
    if _is_cast(subject):
        rows.skip(FROZEN, "they are stored in another dtype than they were trained in")
        return
    stored = {name: known for name, known in proof["hashes"].items() if name in subject.hashes}
    moved = [name for name, known in stored.items() if subject.hashes[name][:DIGITS] != known]
    later = writing(subject.actions[last["step"] :])
    if moved and later:
        rows.skip(FROZEN, f"the step {later[0]} wrote into the model after training")
    elif moved or proof["moved"]:
        text = f"{len(moved)} of {len(stored)} have other values than in training: {listed(moved)}"
        first = next(iter(moved), None)
        pair = (proof["hashes"][first], subject.hashes[first][:DIGITS]) if first else (None, None)
        rows.fail(FROZEN, text, *pair)
    else:
        rows.confirm(FROZEN, f"{len(stored)} have the values that were compared before and after training")


def _is_cast(subject: Subject) -> bool:
    return bool(subject.saved and subject.saved.get("dtype")) or subject.metadata.converted_from is not None


def writing(actions: list[str]) -> list[str]:
    """Those of a recipe's steps that may give tensors other values, frozen ones too."""
    return [name for name in actions if name not in WRITES_NOTHING and registry.find(name, "surgeries") is None]


def check_base(subject: Subject, rows: Rows) -> None:
    """The base weights are the file that is recorded, fill what is said, and what never trained has their bits."""
    base = subject.metadata.base_weights
    if base is None:
        return
    if subject.unbuildable:
        rows.skip(BASE, subject.unbuildable)
        return
    here = _digests_here(subject)
    if not here:
        rows.skip(BASE, f"{base.name} ({base.location or base.name}) is not on this machine")
        return
    found = base.sha256 if base.sha256 in here.values() else ", ".join(here.values())
    same = f"{base.name} is on this machine, with the sha256 that is recorded"
    if rows.equal(BASE, base.sha256, found, same, f"{base.name} on this machine is another file"):
        with generators_kept():
            _check_load(subject, rows)


def _digests_here(subject: Subject) -> dict[str, str]:
    """The sha256 of each file on this machine that could be the base weights."""
    base = subject.metadata.base_weights
    assert base is not None
    here: dict[str, str] = {}
    for weights in base_candidates(base.model_dump(), subject.metadata.architecture, subject.folder):
        with suppress(ZooError, OSError):
            if fetched(weights.location, weights.sha256) is not None:
                here[weights.location] = digest(replace(weights, sha256=None))
    return here


def _check_load(subject: Subject, rows: Rows) -> None:
    described = subject.metadata.model_dump()
    try:
        assembly, loaded = loaded_base(described, subject.folder)
        _check_coverage(subject, loaded, rows)
        given = replay_on_base(assembly, loaded, described)
    except ZooError as error:
        rows.fail(COVERAGE, f"the base weights cannot be loaded as is said: {error}")
        return
    unmoved, why = _unmoved(subject)
    if why:
        rows.skip(UNMOVED, why)
        return
    state = state_of(assembly.model)
    compared = [name for name in unmoved if name in given and name in subject.hashes]
    compared = [name for name in compared if subject.source.entries[name].dtype == NAMES[state[name].dtype]]
    moved = [name for name in compared if subject.hashes[name] != tensor_sha256(state[name])]
    if moved:
        first = moved[0]
        text = f"{len(moved)} of {len(compared)} that never trained differ from the base weights: {listed(moved)}"
        rows.fail(UNMOVED, text, tensor_sha256(state[first])[:DIGITS], subject.hashes[first][:DIGITS])
    elif compared:
        rows.confirm(UNMOVED, f"{len(compared)} that never trained are the base weights', bit for bit")


def _check_coverage(subject: Subject, loaded: LoadReport, rows: Rows) -> None:
    said: Mapping[str, Any] | None = (subject.report or {}).get("weights")
    if said is None:
        return
    expected = {"coverage": said["coverage"], "missing": said["missing"]}
    found = {"coverage": loaded.coverage, "missing": list(loaded.missing)}
    detail = f"{loaded.coverage:.1%} of the parameters, as the report says"
    rows.equal(COVERAGE, expected, found, detail, "the base weights fill another part of the model than is said")


def _unmoved(subject: Subject) -> tuple[list[str], str | None]:
    """The tensors that were frozen in every train step; or why that cannot be said."""
    trained = train_stages(subject.stages)
    if subject.report is None:
        return [], "which tensors never trained is in the run's report, which is not beside it"
    if later := writing(subject.actions):
        return [], f"the step {later[0]} may have given them other values"
    if any(stage["freeze_proof"] is None for stage in trained):
        return [], "a train step ended early, before what is frozen was compared"
    heads = tuple(f"{stage['head']}." for stage in subject.stages if stage["action"] == "probe")
    names = list(trained[0]["freeze_proof"]["hashes"]) if trained else []
    return [
        name
        for name in names
        if all(name in stage["freeze_proof"]["hashes"] for stage in trained) and not name.startswith(heads or ("\0",))
    ], None
