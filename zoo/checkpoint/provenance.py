"""Whose components a checkpoint is made of, and whether they still compute what they did when it was written.

A file records which distribution supplied its architecture and each of its surgeries, and a fingerprint: what the model
gives for one fixed input. Where a version differs when the file is loaded, the model is asked again.
"""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zoo import registry
from zoo.errors import InputError, Problem, listed
from zoo.formats.checkpoint_metadata import CheckpointMetadata
from zoo.given import is_given
from zoo.installed import version
from zoo.isolation import warn
from zoo.model.assembly import Assembly
from zoo.model.prediction import prediction
from zoo.model.trace import call_with
from zoo.model.undisturbed import generators_kept, undisturbed

VALUES = 16  # of the outputs are kept, and their norm
TOLERANCE = 0.01  # of the largest value kept: other machines and devices differ by far less, other code by more
_BESIDE = ("zoo-kit", "torch")  # these change without a plugin's doing


def suppliers(assembly: Assembly) -> dict[str, str]:
    """The distribution of the architecture and of each surgery, by the component's full name."""
    rows = [] if is_given(assembly.architecture) else [registry.resolve(assembly.architecture, "architectures")]
    rows += [registry.resolve(record["surgery"], "surgeries") for record in assembly.operations]
    return {row.name: row.distribution for row in rows if row.distribution}


def fingerprint(assembly: Assembly, rounded: Mapping[int, Tensor] | None = None) -> dict[str, Any] | None:
    """`{"shape", "values", "norm"}`: what the model gives in evaluation mode for one fixed input.

    `rounded` are the values of its tensors as the file has them, by the identity of the tensor. None for a model
    without values, that takes no such input, or that gives something else each time.
    """
    model = assembly.model
    tensors = [*model.parameters(), *model.buffers()]
    if not tensors or any(tensor.is_meta for tensor in tensors):
        return None
    for shape in _shapes(assembly):
        first, again = (_outputs(model, shape, rounded or {}) for _ in range(2))
        if first is not None and first == again:
            return {"shape": list(shape)} | first
    return None


def _shapes(assembly: Assembly) -> Iterator[tuple[int, ...]]:
    """Shapes that the model may take: an image's, else a row of numbers."""
    yield (1, assembly.preprocessing.channels, *assembly.preprocessing.size)
    for module in assembly.model.modules():
        if isinstance(module, nn.Linear):
            yield (1, module.in_features)
            return


def _outputs(model: nn.Module, shape: tuple[int, ...], rounded: Mapping[int, Tensor]) -> dict[str, Any] | None:
    like = next(tensor for tensor in [*model.parameters(), *model.buffers()])
    dtype = next((value.dtype for value in model.parameters() if value.is_floating_point()), torch.float32)
    batch = fixed_input(shape).to(like.device, dtype)
    try:
        with generators_kept(), undisturbed(model, training=False, attributes=True), torch.no_grad():
            values = prediction(call_with(model, rounded, batch)).flatten().double().cpu()
    except Exception:  # it takes another input, or its forward fails: then there is nothing to compare
        return None
    kept = [float(f"{value:.6g}") for value in values[:VALUES].tolist()]
    norm = float(f"{float(values.norm()):.6g}")
    return {"values": kept, "norm": norm} if kept and all(map(math.isfinite, [*kept, norm])) else None


def fixed_input(shape: tuple[int, ...]) -> Tensor:
    """The same numbers everywhere, between -1 and 1: a sine over the index, which no generator decides about."""
    count = math.prod(shape)
    return torch.sin(torch.arange(count, dtype=torch.float64) * 0.37).float().reshape(shape)


def difference(before: Mapping[str, Any], after: Mapping[str, Any] | None) -> float | None:
    """The largest difference between two fingerprints as a share of the largest value; None where one is missing or
    they are of different forms."""
    try:
        if after is None or list(before["shape"]) != list(after["shape"]):
            return None
        pairs = [*zip(before["values"], after["values"], strict=True), (before["norm"], after["norm"])]
        largest = max(*map(abs, before["values"]), 1e-6)
        own = max(abs(a - b) for a, b in pairs[:-1]) / largest
        return float(max(own, abs(pairs[-1][0] - pairs[-1][1]) / max(abs(pairs[-1][0]), 1e-6)))
    except (KeyError, TypeError, ValueError):  # an edited file
        return None


def check_suppliers(metadata: CheckpointMetadata, path: str | os.PathLike[str]) -> None:
    """Raises InputError where a distribution that the file records is not installed, naming it and its version."""
    missing: dict[str, list[str]] = {}
    for component, distribution in metadata.suppliers.items():
        if version(distribution) is None:
            missing.setdefault(distribution, []).append(component)
    if missing:
        raise InputError(_missing(metadata, path, name, of) for name, of in missing.items())


def _missing(metadata: CheckpointMetadata, path: str | os.PathLike[str], name: str, components: list[str]) -> Problem:
    was = metadata.versions.get(name)
    exact = f"{name}=={was}" if was else name
    hint = f"if you trust it: pip install {shlex.quote(exact)}" if re.fullmatch(r"[\w.=+!-]+", exact) else None
    what = f"{listed(components)} of {name} {was}" if was else f"{listed(components)} of {name}"
    return Problem(f"{os.fspath(path)} needs {what}, which is not installed", None, hint)


def changed(metadata: CheckpointMetadata) -> dict[str, str]:
    """What was recorded of each distribution that has another version here: `0.1 (here 0.2)`."""
    here = {name: version(name) for name in metadata.versions}
    return {
        name: f"{name} {was} (here {here[name] or 'none'})"
        for name, was in metadata.versions.items()
        if here[name] != was
    }


def warn_of_changes(metadata: CheckpointMetadata, assembly: Assembly, path: str | os.PathLike[str]) -> None:
    """Say where a plugin has another version than the file records, and whether the model's outputs are others now."""
    others = {name: text for name, text in changed(metadata).items() if name not in _BESIDE}
    plugins = [text for name, text in others.items() if name in metadata.suppliers.values()]
    if not others:
        return
    apart = None
    if metadata.fingerprint is not None:
        apart = difference(metadata.fingerprint, fingerprint(assembly))
    if apart is not None and apart > TOLERANCE:
        warn(
            f"{os.fspath(path)}: the model gives other outputs than when it was written (by {apart:.0%} on a fixed "
            f"input); it was written with {', '.join(others.values())}"
        )
    elif plugins:
        same = "" if apart is None else "; its outputs on a fixed input are the same"
        warn(f"{os.fspath(path)} was written with {', '.join(plugins)}{same}")
