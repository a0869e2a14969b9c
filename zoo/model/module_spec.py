"""A module as a recipe writes it: a torch.nn class by name or a plugin's module; what is left out is inferred."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from zoo.errors import InputError, Problem, did_you_mean
from zoo.isolation import failure_of
from zoo.model.trace import Shape
from zoo.recipe import signature
from zoo.recipe.catalogue import find
from zoo.recipe.signature import WrittenModule, alternatives, annotated

_TENSOR_OPTIONS = ("device", "dtype")  # the model decides these


@dataclass
class ModuleSpec(WrittenModule):
    """A module as it is written. `build` fills in what was left out, and `as_json` then says exactly what was built.

    `arguments` hold plain values, and a ModuleSpec where an argument is itself a module; `parts` are the named
    children of a Sequential. A surgery's keyword parameter annotated `ModuleSpec` is handed one; recipe validation
    calls `parse` on what is written.
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, ModuleSpec] = field(default_factory=dict)

    @classmethod
    def parse(cls, value: Any) -> ModuleSpec:
        """Read what a recipe wrote. Raises InputError with every unknown name and argument found."""
        if isinstance(value, ModuleSpec):
            return value
        name, written = _name_and_arguments(value)
        known = parameters(constructor(name))
        if name == "Sequential":
            return cls(name, parts=_parse_parts(written))
        if not isinstance(written, Mapping):
            written = _positional(name, written, known)
        spec, problems = cls(name), _unknown_arguments(name, written, known)
        for key, given in written.items():
            try:
                module = key in known and _is_module(known[key]) and not isinstance(given, nn.Module)
                spec.arguments[str(key)] = cls.parse(given) if module and given is not None else given
            except InputError as error:
                problems.extend(error.problems)
        if problems:
            raise InputError(problems)
        return spec

    def build(
        self, place: Place | None = None, *, like: Tensor | None = None, given: Mapping[str, nn.Module] | None = None
    ) -> nn.Module:
        """The module with fresh parameters, on the device and in the dtype of `like` (a floating tensor).

        What was left out is inferred from `place` (the module there now, its input shape) and kept in `arguments`.
        `given` are existing modules for parameters of the constructor; they are not part of the spec.
        Raises InputError for what cannot be inferred and for values the module does not accept.
        """
        infer_widths(self, place, skip=given or ())
        if like is None:
            return self.construct(given)
        with like.device:
            return self.construct(given).to(like.dtype)

    def construct(self, given: Mapping[str, nn.Module] | None = None) -> nn.Module:
        """The module on the default device from what is written, nothing filled in. Raises InputError."""
        make = constructor(self.name)
        parts = OrderedDict((name, part.construct()) for name, part in self.parts.items())
        arguments = {k: v.construct() if isinstance(v, ModuleSpec) else v for k, v in self.arguments.items()}
        arguments.update(given or {})
        try:
            built = make(parts) if self.name == "Sequential" else make(**signature.converted(make, arguments))
        except InputError:
            raise
        except Exception as error:
            written = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
            raise InputError(f"{self.name}({written}) cannot be built: {failure_of(error)}") from error
        if not isinstance(built, nn.Module):
            raise InputError(f"{self.name} gave {type(built).__name__} where an nn.Module is due")
        return built

    def as_json(self) -> str | dict[str, Any]:
        """What `parse` reads back to an equal spec, as plain JSON-able data."""
        if self.name == "Sequential":
            numbered = list(self.parts) == [str(index) for index in range(len(self.parts))]
            written = {name: part.as_json() for name, part in self.parts.items()}
            return {self.name: list(written.values()) if numbered else written}
        return (
            {self.name: {key: plain(value) for key, value in self.arguments.items()}} if self.arguments else self.name
        )

    def copy(self) -> ModuleSpec:
        return ModuleSpec.parse(self.as_json())

    def __str__(self) -> str:
        inside = [f"{key}={value}" for key, value in self.arguments.items()]
        return f"{self.name}({', '.join(inside + [str(part) for part in self.parts.values()])})"


def constructor(name: str) -> Callable[..., nn.Module]:
    """The class or factory called `name`: torch.nn's, else a plugin's. Raises InputError with the nearest names."""
    return cast(Callable[..., nn.Module], find("modules", name))


def parameters(make: Callable[..., nn.Module]) -> dict[str, inspect.Parameter]:
    """What a module is built from, without torch's `device` and `dtype`."""
    known = annotated(make, {"nn": nn})
    return {name: value for name, value in known.items() if name not in _TENSOR_OPTIONS}


def module_parameter(name: str) -> str:
    """The parameter through which the module called `name` takes another one. Raises InputError when it has none."""
    taking = [key for key, parameter in parameters(constructor(name)).items() if _is_module(parameter)]
    if not taking:
        raise InputError(f"{name} takes no module: none of its parameters is annotated nn.Module")
    return taking[0]


def _is_module(parameter: inspect.Parameter) -> bool:
    """Whether a parameter's annotation is a module, perhaps an optional one."""
    options = alternatives(parameter.annotation)
    return any(isinstance(option, type) and issubclass(option, nn.Module | ModuleSpec) for option in options)


def _name_and_arguments(value: Any) -> tuple[str, Any]:
    if isinstance(value, str):
        return value, {}
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, arguments),) = value.items()
        if isinstance(name, str):
            return name, {} if arguments is None else arguments
    raise InputError(
        f"a module is a name or one name with its arguments, not {value!r}",
        suggestion="for instance ReLU or {Linear: {out_features: 10}}",
    )


def _parse_parts(written: Any) -> dict[str, ModuleSpec]:
    items = written.items() if isinstance(written, Mapping) else enumerate(_listed(written))
    parts: dict[str, ModuleSpec] = {}
    problems: list[Problem] = []
    for key, value in items:
        name = str(key)
        if not name or "." in name:
            problems.append(Problem(f"a module inside Sequential cannot be called {name!r}: no dots, not empty"))
        try:
            parts[name] = ModuleSpec.parse(value)
        except InputError as error:
            problems.extend(error.problems)
    if problems:
        raise InputError(problems)
    return parts


def _listed(written: Any) -> Iterable[Any]:
    if isinstance(written, list | tuple):
        return written
    raise InputError(
        f"Sequential takes a list of modules, not {written!r}",
        suggestion="for instance {Sequential: [{Linear: {out_features: 256}}, ReLU]}",
    )


def _positional(name: str, value: Any, known: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """`{Dropout: 0.5}`: a single value is the first parameter."""
    if not known:
        raise InputError(f"{name} takes no arguments, but {value!r} is given")
    return {next(iter(known)): value}


def _unknown_arguments(name: str, written: Mapping[str, Any], known: Mapping[str, inspect.Parameter]) -> list[Problem]:
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return []
    hints = {key: did_you_mean(str(key), known) or f"it takes {', '.join(known) or 'none'}" for key in written}
    return [Problem(f"{name} takes no argument {k!r}", None, hints[k]) for k in written if k not in known]


def plain(value: Any) -> Any:
    """`value` as JSON stores it: a module as it is written, tuples as lists, a Path as its text."""
    if isinstance(value, ModuleSpec):
        return value.as_json()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else signature.plain(value)


# Inference: a required argument that is left out (or written `auto`) is read off the place where the module goes. Input
# widths come from the shape that a forward pass brings there; where that is not known, they and the output widths come
# from the layer that is there now. In a Sequential each part's input is the output of the part before it, worked out on
# `meta`, and only the last part that has an output width takes that of the place.

# The axis of each width in the shape of the input, [b, c, …] or [b, …, features].
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
    raise InputError("its input shape is not known")


@dataclass(frozen=True)
class Place:
    """Where a new module goes: `like` is the module there now, `input_shape` gives the shape [b, …] of its input (or
    raises InputError that says why it is not known), `out` is the width of the output it must have."""

    like: nn.Module | None = None
    input_shape: Callable[[], Shape] = _unknown
    out: int | None = None


def infer_widths(spec: ModuleSpec, place: Place | None = None, *, skip: Collection[str] = ()) -> None:
    """Write every width that can be inferred into `spec`, but for the arguments in `skip`.

    Raises InputError for a required argument that is left out and cannot be inferred.
    """
    place = place or Place()
    if spec.name == "Sequential":
        _fill_chain(spec, place)
        return
    problems: list[Problem] = []
    for key in [key for key in blanks(spec) if key not in skip]:
        try:
            spec.arguments[key] = _infer(spec, key, place)
        except InputError as error:
            why = "; ".join(problem.message for problem in error.problems)
            problems.append(Problem(f"{spec.name} needs {key}, which cannot be inferred: {why}", None, f"give {key}"))
    if problems:
        raise InputError(problems)


def blanks(spec: ModuleSpec) -> list[str]:
    """The arguments of a module that must be filled in: required and left out, or written as `auto`."""
    known = parameters(constructor(spec.name))
    skipped = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    required = [k for k, v in known.items() if v.default is v.empty and v.kind not in skipped]
    auto = [key for key, value in spec.arguments.items() if isinstance(value, str) and value == "auto"]
    return [*(key for key in required if key not in spec.arguments), *auto]


def _infer(spec: ModuleSpec, key: str, place: Place) -> int | list[int]:
    present = _attribute(place.like, key)
    if key in _OUTPUTS and place.out is not None:
        return place.out
    if key in _INPUT_AXES:
        try:
            return _width(key, place.input_shape())
        except InputError:
            if present is None:
                raise
    if present is None:
        raise InputError("it does not follow from the input")
    return present


def _width(key: str, shape: Shape) -> int | list[int]:
    if key == "normalized_shape":
        if len(shape) > 3:
            raise InputError(f"its input is {list(shape)}, of which any trailing part could be normalised")
        return [shape[-1]]
    if len(shape) <= _INPUT_AXES[key]:
        raise InputError(f"its input is {list(shape)}, which has no channels")
    return shape[_INPUT_AXES[key]]


def _attribute(like: nn.Module | None, key: str) -> int | list[int] | None:
    if not isinstance(like, _KNOWN_LAYERS):
        return None
    value: Any = getattr(like, key, getattr(like, _ALIASES.get(key, key), None))
    return list(value) if isinstance(value, tuple) else value


def _fill_chain(spec: ModuleSpec, place: Place) -> None:
    """Fill parts that run one after the other: each one's input is the output of the part before it."""
    parts = list(spec.parts.values())
    giving = [index for index, part in enumerate(parts) if _gives_width(part)]

    def input_shape(index: int) -> Shape:
        if index == 0:
            return place.input_shape()
        return output_shape(parts[index - 1], input_shape(index - 1))

    for index, part in enumerate(parts):
        here = Place(input_shape=lambda index=index: input_shape(index))  # type: ignore[misc]
        if index == 0:
            here = replace(here, like=place.like)
        if giving and index == giving[-1]:
            here = replace(here, out=place.out if place.out is not None else _out_width(place.like))
        infer_widths(part, here)


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
