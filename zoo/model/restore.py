"""Rebuilds a model from one checkpoint file: its architecture and operations from the metadata, its tensors from the
file. Nothing in the file is executed; it can only name installed components."""

from __future__ import annotations

import os

import torch
from torch import nn

from zoo.checkpoint.filling import fill, target_of
from zoo.checkpoint.metadata import CheckpointMetadata, read_metadata
from zoo.checkpoint.plan import Plan, make_plan
from zoo.checkpoint.sources import open_source
from zoo.errors import InputError, Problem, ZooError
from zoo.model.assembly import Assembly
from zoo.model.base import with_base
from zoo.model.build import Device, rebuild


def load(path: str | os.PathLike[str], *, device: Device | None = None) -> Assembly:
    """The assembly a checkpoint describes, its model in eval mode on `device` (the CPU by default).

    Tensors that a state dict does not hold (index tables, masks) are those the architecture's constructor makes.

    Raises InputError where the file is no zoo checkpoint, is damaged, or needs what is not installed, and WorkError
    where the base weights of a thin checkpoint are missing or others.
    """
    with open_source(os.fspath(path)) as source:
        metadata = read_metadata(source.metadata, path)
        described = metadata.model_dump()
        try:
            with torch.random.fork_rng(devices=[]):
                if metadata.only == "trainable":
                    assembly, given = with_base(described)
                else:
                    assembly, given = rebuild(described, device="cpu"), frozenset()
        except ZooError as error:
            raise type(error)([_placed(problem, path) for problem in error.problems]) from error
        plan = make_plan(source.entries, (), target_of(assembly.model), aliases=source.aliases)
        _check(plan, given, metadata, str(path))
        fill(assembly.model, plan, source.array, staged=False)
    assembly.model.to(device or "cpu").eval()
    return assembly


def load_model(path: str | os.PathLike[str], *, device: Device | None = None) -> nn.Module:
    """`zoo.load`: the model alone, in eval mode; its attribute `zoo` holds the Assembly (classes, preprocessing, …)."""
    assembly = load(path, device=device)
    assembly.model.__dict__["zoo"] = assembly
    return assembly.model


def _placed(problem: Problem, path: str | os.PathLike[str]) -> Problem:
    return Problem(f"{os.fspath(path)}: {problem.message}", problem.location, problem.suggestion)


def _check(plan: Plan, given: frozenset[str], metadata: CheckpointMetadata, path: str) -> None:
    """Every tensor of the model must come from the file or its base; counters and index tables may be computed."""
    target = plan.target
    assert target is not None
    floating = {name for name, entry in target.entries.items() if entry.dtype.startswith(("F", "BF"))}
    missing = [name for name in plan.missing if name not in given and (name in floating or target.is_parameter(name))]
    problems = [Problem(f"it lacks {name!r}") for name in missing]
    problems += [Problem(f"it holds {name!r}, which the model does not have") for name in plan.unexpected]
    problems += [
        Problem(f"{row.name!r} is {list(row.shape)} in the file and {list(row.target_shape)} in the model")
        for row in plan.mismatched
    ]
    if problems:
        head = Problem(
            f"{path} does not fit the {metadata.architecture} it describes, in {len(problems)} tensors",
            suggestion=_versions(metadata),
        )
        raise InputError([head, *problems[:10]])


def _versions(metadata: CheckpointMetadata) -> str:
    from zoo.model.versions import version

    changed = [
        f"{name} {was} (here {version(name) or 'none'})"
        for name, was in metadata.versions.items()
        if version(name) != was
    ]
    return f"it was written with {', '.join(changed)}" if changed else "was the file edited?"
