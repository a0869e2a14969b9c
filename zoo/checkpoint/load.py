"""Rebuild a model from one checkpoint file: architecture and operations from its metadata, tensors from the file.

A thin checkpoint leaves out what its base weights give; those are found the same way at both ends.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import types
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from torch import nn

from zoo.checkpoint.data_folder import as_loaded
from zoo.checkpoint.provenance import changed, check_suppliers, warn_of_changes
from zoo.contracts import Preprocessing, Weights
from zoo.errors import InputError, Problem, WorkError, ZooError, first_problems
from zoo.formats import Source, open_source
from zoo.formats.checkpoint_metadata import CheckpointMetadata, check_unedited, edited_parts, own_entries, read_metadata
from zoo.formats.remote import is_elsewhere, kept
from zoo.given import given, is_given
from zoo.model.assembly import Assembly
from zoo.model.build import Device, rebuild
from zoo.model.freezing import FrozenPart
from zoo.model.info import attach
from zoo.model.input_fit import InputFit
from zoo.model.load_into import LoadReport, fill, load_into, state_of, target_of
from zoo.model.operations import replay
from zoo.model.preprocessing import for_arguments
from zoo.model.pretrained import digest, find_weights
from zoo.model.undisturbed import generators_kept
from zoo.remap.plan import Plan, make_plan
from zoo.remap.remaps import Planned


def with_base(metadata: Mapping[str, Any], folder: Path | None = None) -> tuple[Assembly, frozenset[str]]:
    """The assembly that `metadata` describes, its base weights loaded, and the names of the tensors they fill.

    A file of base weights is looked for where it was, and in `folder`, that of the checkpoint.

    The base weights are loaded into the architecture as built, and the operations are replayed afterwards: tensors
    that these keep are recognised by identity, whatever names they have by then.

    Raises InputError where there are no base weights, WorkError where they cannot be found or are not the same file.
    """
    assembly, report = loaded_base(metadata, folder)
    return assembly, replay_on_base(assembly, report, metadata)


def replay_on_base(assembly: Assembly, report: LoadReport, metadata: Mapping[str, Any]) -> frozenset[str]:
    """Do the recorded operations to what `loaded_base` gave; the names that its loaded tensors have then."""
    state = state_of(assembly.model)
    given = {id(state[name]) for name in report.plan.filled}
    replay(assembly, metadata.get("operations") or [])
    return frozenset(name for name, value in state_of(assembly.model).items() if id(value) in given)


def loaded_base(metadata: Mapping[str, Any], folder: Path | None = None) -> tuple[Assembly, LoadReport]:
    """The architecture that `metadata` names with its base weights loaded, no operations done; and how they fit.

    Raises as `with_base`.
    """
    base = metadata.get("base_weights")
    if not base:
        raise InputError(
            "there are no base weights to build upon", suggestion="save the complete model: save: {only: all}"
        )
    assembly = rebuild({**metadata, "operations": []}, device="cpu")
    weights = _base_weights(base, assembly.architecture, folder)
    report = load_into(
        assembly.model,
        weights.location,
        _remap(base, weights),
        min_coverage=0.0,
        strict_shapes=False,
        ignore=base.get("ignore") or (),
        convert=weights.convert,
    )
    return assembly, report


def _remap(base: Mapping[str, Any], weights: Weights) -> Any:
    return base.get("remap") or weights.remap


def _base_weights(base: Mapping[str, Any], architecture: str, folder: Path | None) -> Weights:
    """The base weights by name, at their recorded location, or beside the checkpoint; the file must be the one
    recorded."""
    name, recorded, location = base["name"], base["sha256"], base.get("location") or base["name"]
    others: dict[str, str] = {}
    for weights in base_candidates(base, architecture, folder):
        try:
            actual = digest(replace(weights, sha256=None))
        except InputError:
            continue
        if actual == recorded:
            return weights
        others[weights.location] = actual
    if not others:
        raise _absent(base, next((place for place in (location, name) if is_elsewhere(place)), None))
    found = " and ".join(f"{place} has the sha256 {actual}" for place, actual in others.items())
    raise WorkError(
        f"the base weights {name} of this checkpoint had the sha256 {recorded}: {found}, another file",
        suggestion="put the file that it was made upon beside the checkpoint",
    )


def base_candidates(base: Mapping[str, Any], architecture: str, folder: Path | None) -> list[Weights]:
    """Where the base weights may lie: what their name stands for, their recorded place, beside the checkpoint."""
    name, location = base["name"], base.get("location") or base["name"]
    named = {place: _local(place) for place in (name, location)}  # an address that a file names is not opened
    candidates = [Weights(place, architecture) for place in (named[location],) if place is not None]
    with contextlib.suppress(InputError):
        if named[name] is not None:
            candidates.insert(0, find_weights(str(named[name]), architecture, base.get("arguments") or {}))
    if folder is not None:
        candidates.append(Weights(str(folder / PurePath(location).name), architecture))
    return candidates


def _local(place: str) -> str | None:
    """A name or path as it is; of an address the copy that is here, or None: a file does not choose who is asked."""
    if not is_elsewhere(place):
        return place
    copy = None
    with contextlib.suppress(InputError):
        copy = kept(place)
    return None if copy is None else str(copy)


def _absent(base: Mapping[str, Any], address: str | None) -> WorkError:
    """`address` is where the file says that they are, if that is elsewhere."""
    place = f"put {PurePath(base.get('location') or base['name']).name} beside the checkpoint"
    fetch = (
        f"no address that a file names is opened: if you trust it, zoo inspect {shlex.quote(address or '')} fetches it"
    )
    return WorkError(
        f"this checkpoint contains only what differs from the base weights {base['name']!r} (sha256 {base['sha256']}), "
        "and they were not found",
        suggestion=f"{place}, or install the plugin that has it" if address is None else f"{fetch}; or {place}",
    )


def load(
    path: str | os.PathLike[str],
    *,
    device: Device | None = None,
    arguments: Mapping[str, Any] = types.MappingProxyType({}),
) -> Assembly:
    """A checkpoint as an Assembly, its model in eval mode on `device` (the CPU by default).

    `arguments` go before the recorded ones: those for images of another size or with other channels, for which the
    tensors are adapted (see zoo.model.input_fit); `notes` say so. Tensors that are in no state dict (index tables,
    masks) are those that the architecture's constructor makes.

    Raises InputError where the file is no zoo checkpoint, is damaged, was edited, or needs what is not installed, and
    WorkError where the base weights of a thin checkpoint are missing or others.
    """
    with open_source(os.fspath(path)) as source:
        metadata, edited = _described(source, path)
        assembly, given = _rebuilt(metadata, path, _sizes(source), arguments)
        plan = _plan(source, assembly, metadata, arguments)
        _check(plan, given, metadata, str(path))  # names the tensors, where some are missing or others
        check_unedited(edited, path)
        fill(assembly.model, plan, source.array, staged=False)
    assembly.data = as_loaded(assembly.data, path)
    assembly.frozen = FrozenPart(tuple(metadata.frozen)) if metadata.frozen else None
    assembly.model.to(device or "cpu").eval()
    warn_of_changes(metadata, assembly, path)
    return assembly


def _plan(source: Source, assembly: Assembly, metadata: CheckpointMetadata, arguments: Mapping[str, Any]) -> Plan:
    """Which tensor of the file goes where, adapted where the network is built with other arguments."""
    target = target_of(assembly.model)
    plan = make_plan(source.entries, (), target, aliases=source.aliases)
    if not arguments:
        return plan
    before = metadata.preprocessing.as_contract() if metadata.preprocessing else None
    adapted = InputFit(assembly.model, assembly.preprocessing, before).fitted(
        Planned(plan, (), ()), lambda rules: make_plan(source.entries, rules, target, aliases=source.aliases)
    )
    assembly.notes += [f"checkpoint: {text}" for text in adapted.adapted]
    return adapted.plan


def outline(path: str | os.PathLike[str], *, arguments: Mapping[str, Any] = types.MappingProxyType({})) -> Assembly:
    """A checkpoint as an Assembly on `meta`: what `load` gives, without values. No tensor is read.

    Raises InputError as `load` does; whether the base weights of a thin checkpoint are there is for `load` to say.
    """
    with open_source(os.fspath(path)) as source:
        metadata, edited = _described(source, path)
        with _told_of(path, metadata), generators_kept():
            assembly = rebuild(_with(metadata, arguments, path), device="meta", **_sizes(source))
        plan = _plan(source, assembly, metadata, arguments)
        thin = metadata.only == "trainable"
        _check(plan, frozenset(target_of(assembly.model).entries) if thin else frozenset(), metadata, str(path))
        check_unedited(edited, path)
    return assembly


def _described(source: Source, path: str | os.PathLike[str]) -> tuple[CheckpointMetadata, list[str]]:
    """What the file says of itself, and its parts that were edited: only tensors may be among them."""
    metadata = read_metadata(source.metadata, path)
    check_suppliers(metadata, path)
    edited = edited_parts(metadata, own_entries(source))
    check_unedited([part for part in edited if part != "tensors"], path)
    return metadata, edited


def _sizes(source: Source) -> dict[str, int]:
    """What a network can be filled with."""
    entries = source.entries.values()
    return {"tensors": len(entries), "elements": sum(entry.elements for entry in entries)}


def _with(metadata: CheckpointMetadata, arguments: Mapping[str, Any], path: str | os.PathLike[str]) -> dict[str, Any]:
    """What the file says of itself, built with other `arguments`. Raises InputError of a thin checkpoint, whose base
    weights have the shapes that it says."""
    described = metadata.model_dump()
    if not arguments:
        return described
    if metadata.only == "trainable":
        message = f"{os.fspath(path)} contains only what differs from its base weights, which is for its own image size"
        raise InputError(message, suggestion="save the complete model: save: {only: all}")
    preprocessing = metadata.preprocessing.as_contract() if metadata.preprocessing else Preprocessing()
    prepared = for_arguments(preprocessing, arguments).as_dict()
    return described | {"arguments": {**metadata.arguments, **arguments}, "preprocessing": prepared}


def _rebuilt(
    metadata: CheckpointMetadata,
    path: str | os.PathLike[str],
    sizes: Mapping[str, int],
    arguments: Mapping[str, Any],
) -> tuple[Assembly, frozenset[str]]:
    """The assembly without the file's tensors, and the names of those that base weights fill."""
    described = _with(metadata, arguments, path)
    with _told_of(path, metadata), generators_kept():
        if metadata.only == "trainable":
            return with_base(described, Path(path).parent)
        return rebuild(described, device="cpu", **sizes), frozenset()


@contextlib.contextmanager
def _told_of(path: str | os.PathLike[str], metadata: CheckpointMetadata) -> Iterator[None]:
    """What is wrong in here is said of the file, with the plugins that had another version when it was written."""
    try:
        yield
    except ZooError as error:
        problems = [_in_file(problem, path) for problem in error.problems]
        if others := [text for name, text in changed(metadata).items() if name in metadata.suppliers.values()]:
            problems.append(Problem(f"{os.fspath(path)} was written with {', '.join(others)}"))
        raise type(error)(problems) from error


def load_model(
    path: str | os.PathLike[str], *, model: nn.Module | None = None, device: Device | None = None
) -> nn.Module:
    """The model of a checkpoint, in evaluation mode; its attribute `zoo` says what it is (classes, preprocessing, …).

    Args:
        path: a file that zoo wrote.
        model: a fresh instance of the class, where the checkpoint is of one that no plugin supplies. It is filled, the
            recorded surgeries done to it, and returned.
        device: where the model goes, the CPU by default.

    Raises InputError where the file is no zoo checkpoint, is damaged, or needs what is not installed or not handed
    over, and WorkError where the base weights of a thin checkpoint are missing or others.
    """
    if model is None:
        return attach(load(path, device=device))
    with open_source(os.fspath(path)) as source:
        architecture = read_metadata(source.metadata, path).architecture
    if not is_given(architecture):
        message = f"{os.fspath(path)} is of {architecture}, which zoo builds by itself"
        raise InputError(message, suggestion="leave out model=, or fill any model: zoo.load_into(model, PATH)")
    instance = model
    instance.__dict__.pop("zoo", None)
    with given({"architectures": {architecture: lambda: instance}}):
        return attach(load(path, device=device))


def _in_file(problem: Problem, path: str | os.PathLike[str]) -> Problem:
    return Problem(f"{os.fspath(path)}: {problem.message}", problem.location, problem.suggestion)


def _check(plan: Plan, given: frozenset[str], metadata: CheckpointMetadata, path: str) -> None:
    """Every tensor of the model must come from the file or its base; counters and index tables may be computed."""
    target = plan.target
    assert target is not None
    floating = {name for name, entry in target.entries.items() if entry.dtype.startswith(("F", "BF"))}
    missing = [name for name in plan.missing if name not in given and (name in floating or target.is_parameter(name))]
    problems = [Problem(f"it lacks {name!r}") for name in missing]
    problems += [Problem(f"it contains {name!r}, which the model does not have") for name in plan.unexpected]
    problems += [
        Problem(f"{row.name!r} is {list(row.shape)} in the file and {list(row.target_shape)} in the model")
        for row in plan.mismatched
    ]
    if problems:
        head = Problem(
            f"{path} does not fit the {metadata.architecture} it describes, in {len(problems)} tensors",
            suggestion=_versions(metadata),
        )
        raise InputError([head, *first_problems(problems)])


def _versions(metadata: CheckpointMetadata) -> str:
    if is_given(metadata.architecture):
        return "build the instance with the arguments that the saved one had"
    others = changed(metadata).values()
    return f"it was written with {', '.join(others)}" if others else "was the file edited?"
