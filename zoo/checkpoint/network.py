"""What `zoo inspect` says of a network: its modules, where its parameters come from, shapes and multiply-accumulates.

Nothing is computed and nothing trained: the network stands on `meta`, and one image without values goes through it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from zoo import registry
from zoo.checkpoint.load import loaded_base, outline
from zoo.contracts import Context
from zoo.errors import ZooError
from zoo.formats.checkpoint_metadata import CheckpointMetadata
from zoo.model.assembly import Assembly
from zoo.model.build import build, rebuild
from zoo.model.load_into import state_of
from zoo.model.operations import replay
from zoo.model.shapes import BATCH, ModuleShapes, Pass, dry_run
from zoo.model.trace import Shape, Trace
from zoo.model.tree import Node, module_tree
from zoo.model.undisturbed import generators_kept

ORIGINS = ("loaded", "new", "random")
MARKS = ("frozen", "trainable", *ORIGINS)


def architecture(component: registry.Component, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """An architecture as it is built with `arguments`. Raises as `build`."""
    with generators_kept():
        assembly = build(component, arguments, device="meta")
    return _described(assembly, {}, assembly.notes)


def checkpoint(location: str, metadata: CheckpointMetadata, file: Path, sizes: Mapping[str, int]) -> dict[str, Any]:
    """The network of the zoo checkpoint at `location`, which is here as `file` and has tensors of these `sizes`.

    Raises as `outline`.
    """
    assembly = outline(location)
    names = [name for name, _ in assembly.model.named_parameters()]
    frozen = set(metadata.frozen)
    marks: dict[str, Iterable[str]] = {
        "frozen": metadata.frozen,
        "trainable": [name for name in names if name not in frozen],
    }
    notes = list(assembly.notes)
    try:
        marks |= _origins(metadata, file.parent, sizes)
    except ZooError as error:
        notes.append(f"which parameters were loaded is not known: {error.problems[0].message}")
    return _described(assembly, marks, notes)


def _origins(metadata: CheckpointMetadata, folder: Path, sizes: Mapping[str, int]) -> dict[str, list[str]]:
    """The names of parameters that the base weights gave, that surgeries made, and that neither did; {} where the file
    does not say (a conversion's, one that zoo.save wrote of a network filled by hand).

    Tensors that surgeries keep are recognised by identity. Raises ZooError where the base weights are not here.
    """
    described = metadata.model_dump()
    filled: frozenset[str] = frozenset()
    if metadata.base_weights is not None:
        with generators_kept():
            assembly, report = loaded_base(described, folder)
        filled = report.plan.filled
    elif metadata.data is not None and metadata.converted_from is None and metadata.merged_from is None:
        with generators_kept():
            assembly = rebuild(described | {"operations": []}, device="meta", **sizes)
    else:
        return {}
    before = state_of(assembly.model)
    origin = {id(tensor): "loaded" if name in filled else "random" for name, tensor in before.items()}
    with generators_kept():
        replay(assembly, described["operations"])
    found: dict[str, list[str]] = {name: [] for name in ORIGINS}
    for name, tensor in assembly.model.named_parameters():
        found[origin.get(id(tensor), "new")].append(name)
    return found


@dataclass(frozen=True)
class _Facts:
    """What the pass said of a module; a batch of one image."""

    input: Shape | None
    output: Shape | None
    macs: int | None


def _described(assembly: Assembly, marks: Mapping[str, Iterable[str]], notes: Iterable[str]) -> dict[str, Any]:
    shapes = ModuleShapes(assembly.model, Context(preprocessing=assembly.preprocessing), batch=1, counting=True)
    done = shapes.furthest
    root = module_tree(
        assembly.model,
        marks,
        uncalled=_uncalled(assembly.model, done),
        facts=lambda path: _facts(done.trace, path),
    )
    failed = [] if done.error is None else [done.error.problems[0].message]
    prediction = shapes.prediction()
    totals = {mark: root.marked.get(mark) for mark in MARKS}
    return {
        "architecture": assembly.architecture,
        "arguments": dict(assembly.arguments),
        "input": _plain(done.trace.inputs.get("")),
        "output": _plain(prediction),
        "parameters": root.parameters,
        **totals,
        "macs": done.trace.macs.get("") if done.error is None else None,
        "tree": _as_dict(root, root.parameters),
        "notes": [*notes, *failed],
    }


def _uncalled(model: nn.Module, done: Pass) -> list[str]:
    """Modules with parameters that forward never uses; heads that it uses in training mode alone are none of them."""
    size = done.trace.inputs.get("")
    if done.error is not None or size is None or not done.trace.unused():
        return []
    with contextlib.suppress(ZooError):
        return dry_run(model, (BATCH, *size[1:])).uncalled
    return []


def _facts(trace: Trace, path: str) -> _Facts:
    incoming, outgoing = trace.shapes.get(path, (trace.inputs.get(path), None))
    return _Facts(incoming, outgoing, trace.macs.get(path))


def _as_dict(node: Node, total: int) -> dict[str, Any]:
    facts = node.facts
    assert isinstance(facts, _Facts)
    return {
        "path": node.path,
        "name": node.name,
        "count": node.count,
        "kind": node.kind,
        "settings": node.settings,
        "parameters": node.parameters,
        "share": node.parameters / total if total else 0.0,
        **{mark: node.marked.get(mark) for mark in MARKS},
        "input": _plain(facts.input),
        "output": _plain(facts.output),
        "macs": facts.macs,
        "note": node.note,
        "children": [_as_dict(child, total) for child in node.children],
    }


def _plain(shape: Shape | None) -> list[int] | None:
    return None if shape is None else list(shape)
