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
from zoo.model.trace import Shape
from zoo.recipe.catalogue import find
from zoo.recipe.signature import alternatives, annotated

# Where each width is in the input shape, [b, c, …] or [b, …, features].
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
    raise InputError("the input shape there is not known")


@dataclass(frozen=True)
class Place:
    """The place of a new module.

    `like` is the module there now, `input_shape` gives the shape [b, …] of its input (or raises InputError saying why
    nobody knows), `out` is the width it must give.
    """

    like: nn.Module | None = None
    input_shape: Callable[[], Shape] = _unknown
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
            return _width(key, place.input_shape())
        except InputError:
            if standing is None:
                raise
    if standing is None:
        raise InputError("it is for you to say")
    return standing


def _width(key: str, shape: Shape) -> int | list[int]:
    if key == "normalized_shape":
        if len(shape) > 3:
            raise InputError(f"its input is a tensor {list(shape)}, of which any trailing part could be normalised")
        return [shape[-1]]
    if len(shape) <= _INPUT_AXES[key]:
        raise InputError(f"its input is a tensor {list(shape)}, which has no channels")
    return shape[_INPUT_AXES[key]]


def _attribute(like: nn.Module | None, key: str) -> int | list[int] | None:
    if not isinstance(like, _KNOWN_LAYERS):
        return None
    value: Any = getattr(like, key, getattr(like, _ALIASES.get(key, key), None))
    return list(value) if isinstance(value, tuple) else value


def _fill_chain(spec: ModuleSpec, place: Place) -> None:
    """Fill parts that run one after the other; the input of each is the output of the one before."""
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


_TENSOR_OPTIONS = ("device", "dtype")  # the model decides these


@dataclass
class ModuleSpec:
    """An order form for a module. `build` fills in its blanks, so that `as_json` then says exactly what was built.

    `arguments` hold plain values, and a ModuleSpec where an argument is itself a module; `parts` are the named
    children of a Sequential. A surgery's keyword parameter annotated `ModuleSpec` is handed one; recipe validation
    calls `parse` on what stands there.
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

        What was left out is worked out from `place` (the module there, its input shape) and kept in `arguments`.
        `given` are existing modules for parameters of the constructor; they are not part of the order form.
        Raises InputError for what cannot be worked out and for values the module does not accept.
        """

        fill(self, place, skip=given or ())
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
            built = make(parts) if self.name == "Sequential" else make(**arguments)
        except InputError:
            raise
        except Exception as error:
            written = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
            raise InputError(f"{self.name}({written}) cannot be built: {type(error).__name__}: {error}") from error
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
            {self.name: {key: _plain(value) for key, value in self.arguments.items()}} if self.arguments else self.name
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
        f"Sequential contains a list of modules, not {written!r}",
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


def _plain(value: Any) -> Any:
    if isinstance(value, ModuleSpec):
        return value.as_json()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
