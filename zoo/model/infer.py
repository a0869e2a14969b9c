"""Fill in what a recipe left out of a module: widths, from what stands at its place and what arrives there."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from zoo.errors import InputError, Problem
from zoo.model.modules import ModuleSpec, constructor, parameters
from zoo.model.trace import Shape

# Where each width stands in the shape of the tensor that arrives, [b, c, …] or [b, …, features].
_INPUT_AXES = {
    "in_features": -1,
    "in_channels": 1,
    "num_features": 1,
    "num_channels": 1,
    "embed_dim": -1,
    "d_model": -1,
    "input_size": -1,
    "normalized_shape": -1,
}
_OUTPUTS = ("out_features", "out_channels")
_ALIASES = {"num_features": "num_channels", "num_channels": "num_features"}
_KNOWN_LAYERS = (
    nn.Linear,
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.MultiheadAttention,
)


def _unknown() -> Shape:
    raise InputError("what arrives there is not known")


@dataclass(frozen=True)
class Place:
    """Where a new module goes: `like` is what stands there now, `arriving` gives the shape [b, …] of the tensor that
    reaches it (or raises InputError saying why nobody knows), `out` is the width it must give."""

    like: nn.Module | None = None
    arriving: Callable[[], Shape] = _unknown
    out: int | None = None


def fill(spec: ModuleSpec, place: Place | None = None, *, skip: Collection[str] = ()) -> None:
    """Write every width that can be worked out into `spec`, but for the arguments in `skip`.

    Raises InputError for a required argument that is left out and cannot be worked out.
    """
    place = place or Place()
    if spec.name == "Sequential":
        _fill_chain(spec, place)
        return
    problems: list[Problem] = []
    for key in [key for key in blanks(spec) if key not in skip]:
        try:
            spec.arguments[key] = _work_out(spec, key, place)
        except InputError as error:
            why = "; ".join(problem.message for problem in error.problems)
            problems.append(Problem(f"{spec.name} needs {key}, which cannot be worked out: {why}", None, f"give {key}"))
    if problems:
        raise InputError(problems)


def blanks(spec: ModuleSpec) -> list[str]:
    """The arguments of a module that must be filled in: required and left out, or written as `auto`."""
    known = parameters(constructor(spec.name))
    skipped = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    required = [k for k, v in known.items() if v.default is v.empty and v.kind not in skipped]
    auto = [key for key, value in spec.arguments.items() if isinstance(value, str) and value == "auto"]
    return [*(key for key in required if key not in spec.arguments), *auto]


def _work_out(spec: ModuleSpec, key: str, place: Place) -> int | list[int]:
    standing = _attribute(place.like, key)
    if key in _OUTPUTS and place.out is not None:
        return place.out
    if key in _INPUT_AXES:
        try:
            return _width(key, place.arriving())
        except InputError:
            if standing is None:
                raise
    if standing is None:
        raise InputError("it is for you to say")
    return standing


def _width(key: str, shape: Shape) -> int | list[int]:
    if key == "normalized_shape":
        if len(shape) > 3:
            raise InputError(f"a tensor {list(shape)} arrives, of which any trailing part could be normalised")
        return [shape[-1]]
    if len(shape) <= _INPUT_AXES[key]:
        raise InputError(f"a tensor {list(shape)} arrives, which has no channels")
    return shape[_INPUT_AXES[key]]


def _attribute(like: nn.Module | None, key: str) -> int | list[int] | None:
    if not isinstance(like, _KNOWN_LAYERS):
        return None
    value: Any = getattr(like, key, getattr(like, _ALIASES.get(key, key), None))
    return list(value) if isinstance(value, tuple) else value


def _fill_chain(spec: ModuleSpec, place: Place) -> None:
    """Fill parts that run one behind the other; each one's input is what the parts before it make of the arriving."""
    parts = list(spec.parts.values())
    giving = [index for index, part in enumerate(parts) if _gives_width(part)]

    def arriving(index: int) -> Shape:
        if index == 0:
            return place.arriving()
        return output_shape(parts[index - 1], arriving(index - 1))

    for index, part in enumerate(parts):
        here = Place(arriving=lambda index=index: arriving(index))  # type: ignore[misc]
        if index == 0:
            here = replace(here, like=place.like)
        if giving and index == giving[-1]:
            here = replace(here, out=place.out if place.out is not None else _out_width(place.like))
        fill(part, here)


def _gives_width(spec: ModuleSpec) -> bool:
    if spec.name == "Sequential":
        return any(_gives_width(part) for part in spec.parts.values())
    return any(key in _OUTPUTS for key in parameters(constructor(spec.name)))


def _out_width(like: nn.Module | None) -> int | None:
    widths = [width for key in _OUTPUTS if isinstance(width := _attribute(like, key), int)]
    return widths[0] if widths else None


def output_shape(spec: ModuleSpec, shape: Shape) -> Shape:
    """The shape that a completely written module makes of a tensor of `shape`, found on `meta`. Raises InputError."""
    with torch.device("meta"), torch.no_grad():
        module = spec.construct().eval()
        try:
            output = module(torch.empty(shape))
        except Exception as error:
            raise InputError(f"{spec} does not take a tensor {list(shape)}: {error}") from error
    if not isinstance(output, torch.Tensor):
        raise InputError(f"{spec} gives {type(output).__name__}, not a tensor")
    return tuple(output.shape)
