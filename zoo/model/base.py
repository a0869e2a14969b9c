"""The tensors that a thin checkpoint leaves out: those its base weights give, found the same way at both ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from zoo.api import Weights
from zoo.checkpoint.filling import state_of
from zoo.checkpoint.load import load_into
from zoo.errors import InputError, WorkError
from zoo.model.assembly import Assembly
from zoo.model.build import rebuild
from zoo.model.operate import replay
from zoo.model.pretrained import digest, find_weights


def with_base(metadata: Mapping[str, Any]) -> tuple[Assembly, frozenset[str]]:
    """The assembly that `metadata` describes, its base weights loaded, and the names of the tensors they fill.

    The base goes into the architecture as built and the operations run on it afterwards, so what they kept of it is
    known by identity, whatever names it has by then.

    Raises InputError where there are no base weights, WorkError where they cannot be found or are not the same file.
    """
    base = metadata.get("base_weights")
    if not base:
        raise InputError(
            "there are no base weights to build upon", suggestion="save the whole model: save: {only: all}"
        )
    assembly = rebuild({**metadata, "operations": []}, device="cpu")
    weights = _published(base, assembly.architecture)
    report = load_into(
        assembly.model,
        weights.location,
        _remap(base, weights),
        min_coverage=0.0,
        strict_shapes=False,
        ignore=base.get("ignore") or (),
        convert=weights.convert,
    )
    state = state_of(assembly.model)
    given = {id(state[name]) for name in report.plan.filled}
    replay(assembly, metadata.get("operations") or [])
    return assembly, frozenset(name for name, value in state_of(assembly.model).items() if id(value) in given)


def _remap(base: Mapping[str, Any], weights: Weights) -> Any:
    return base.get("remap") or weights.remap


def _published(base: Mapping[str, Any], architecture: str) -> Weights:
    """The base weights by name, else at the place they were; the file must be the one recorded."""
    name, recorded, location = base["name"], base["sha256"], base.get("location")
    try:
        weights = find_weights(name, architecture)
    except InputError as error:
        if location is None or location == name:
            raise _absent(base) from error
        weights = Weights(location, architecture)
    try:
        actual = digest(replace(weights, sha256=None))
    except InputError as error:
        raise _absent(base) from error
    if actual != recorded:
        raise WorkError(
            f"the base weights {name} ({weights.location}) have the sha256 {actual}, but this checkpoint was made "
            f"upon {recorded}: the file is another one",
        )
    return weights


def _absent(base: Mapping[str, Any]) -> WorkError:
    return WorkError(
        f"this checkpoint holds only what differs from the base weights {base['name']!r} (sha256 {base['sha256']}), "
        "and they are not to be found",
        suggestion=f"put the file at {base.get('location') or base['name']}, or install the plugin that has it",
    )
