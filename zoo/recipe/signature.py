"""A component's signature: its parameters with their annotations, and a pydantic model of what a recipe may write."""

from __future__ import annotations

import functools
import inspect
import json
import numbers
import re
import types
import typing
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, cast

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, create_model
from pydantic_core import PydanticSerializationError, to_jsonable_python

from zoo.recipe.options import ModuleName

_CONTAINERS = (list, tuple, dict, set, frozenset)


class WrittenModule:
    """Base of what a component is handed for a module that a recipe writes: a parameter that is annotated so takes a
    module's name, or a mapping."""


@dataclass(frozen=True)
class Parameter:
    """What can be given by name: its type as YAML can write it, its default unless it is required, and what the
    docstring says of it."""

    kind: Any
    required: bool
    default: Any = None
    description: str = ""


def parameters(
    function: Callable[..., Any], *, first: int = 0, skip: Collection[str] = (), auto: bool = False
) -> dict[str, Parameter]:
    """The parameters of `function` (or a class) by name, without the `first` ones and those called in `skip`, which
    the caller supplies. With `auto`, what takes an integer takes the word `auto` as well."""
    found: dict[str, Parameter] = {}
    known = list(annotated(function).values())[first:]
    descriptions = described_parameters(function, [parameter.name for parameter in known])
    for parameter in known:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or parameter.name in skip:
            continue
        kind = yaml_type(parameter.annotation)
        if auto and int in alternatives(kind):
            kind = Union[kind, Literal["auto"]]  # noqa: UP007 - `|` fails on some runtime types
        required = parameter.default is parameter.empty
        default = None if required else _plain(parameter.default)
        found[parameter.name] = Parameter(kind, required, default, descriptions.get(parameter.name, ""))
    return found


def is_open(function: Callable[..., Any]) -> bool:
    """Whether `function` takes any argument at all (`**arguments`), so that no key can be called unknown."""
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in _signature(function).parameters.values())


def converted(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as the annotations of `function` say: what a recipe can only write as text, a list or a mapping is
    the Path, the member of an Enum, the dataclass, the tuple that the parameter is annotated with.

    What has no annotation, or does not fit it, is left as it is, and so is what is an object already.
    """
    known = annotated(function)
    return {
        key: _converted(value, known[key].annotation) if key in known else value for key, value in arguments.items()
    }


def _converted(value: Any, annotation: Any) -> Any:
    if annotation is Any or not _is_writable(annotation):
        return value
    try:
        return TypeAdapter(annotation).validate_json(json.dumps(value), strict=True)
    except (TypeError, ValueError, ValidationError):  # an object, or `auto` where a number will be
        return value


def plain(value: Any) -> Any:
    """A value as JSON stores it: tuples as lists, a Path or an Enum as its text, a dataclass as a mapping. What has no
    such form stays as it is."""
    try:
        return to_jsonable_python(value, inf_nan_mode="constants")
    except (PydanticSerializationError, ValueError, TypeError):
        return value


def model_of(
    known: Mapping[str, Parameter],
    *,
    base: type[BaseModel] = BaseModel,
    optional: bool = False,
    extra: Literal["forbid", "allow", "ignore"] = "forbid",
) -> type[BaseModel]:
    """A model of a mapping of the `known` parameters (as aliases), beside the fields of `base`.

    With `optional` nothing is required. `extra` is what happens to other keys.
    """
    fields: dict[str, Any] = {}
    for name, parameter in known.items():
        default = ... if parameter.required and not optional else parameter.default
        # numbered names, because a parameter may be called like an attribute of BaseModel
        own = {} if _is_described(parameter.kind) else {"description": parameter.description or None}
        fields[f"parameter_{len(fields)}"] = (parameter.kind, Field(default, alias=name, **own))  # type: ignore[call-overload]
    # the fields have no docstrings, and looking for some in the callers' source takes long where much is imported
    settings = {"extra": extra, "use_attribute_docstrings": False}
    return create_model("Arguments", __base__=base, __cls_kwargs__=settings, **fields)


def _is_described(kind: Any) -> bool:
    """Whether an annotation says itself what the value is: `Annotated[int, Field(description=…)]`."""
    return any(getattr(each, "description", None) for each in getattr(kind, "__metadata__", ()))


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """A model's JSON Schema in itself: references resolved, pydantic's titles left out."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            value = definitions.get(value["$ref"].rpartition("/")[2], {})
        return {key: plain(inner) for key, inner in value.items() if key != "title" or isinstance(inner, dict)}

    result: dict[str, Any] = plain(schema)
    return result


def with_shorthand(options: dict[str, Any], first: str | None) -> dict[str, Any]:
    """The schema of options as a mapping, as the lone value of the first one, or as nothing when none is required."""
    required = options.get("required", [])
    short = [options["properties"][first]] if first and required in ([], [first]) else []
    nothing = [] if required else [{"type": "null"}]
    return {"anyOf": [options, *short, *nothing], "description": options.get("description", "")}


def summary(function: Callable[..., Any]) -> str:
    """The first paragraph of the docstring on one line."""
    return (inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " ")


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # built into C: nothing is known of its arguments
        return inspect.Signature([inspect.Parameter("arguments", inspect.Parameter.VAR_KEYWORD)])


def annotated(
    function: Callable[..., Any], names: Mapping[str, Any] = types.MappingProxyType({})
) -> dict[str, inspect.Parameter]:
    """The parameters of a function or class by name, each annotation an object.

    `names` holds what a plugin may import for type checkers only (`ModuleSpec`). An annotation that is missing, or
    cannot be resolved, is Any; each is resolved on its own.
    """
    target: Any = function
    while isinstance(target, functools.partial):
        target = target.func
    if inspect.isclass(target):
        target = target.__init__
    known = {**names, **getattr(inspect.unwrap(target), "__globals__", {})}
    return {
        name: parameter.replace(annotation=_resolved(parameter.annotation, known))
        for name, parameter in _signature(function).parameters.items()
    }


def _resolved(annotation: Any, names: Mapping[str, Any]) -> Any:
    if annotation is inspect.Parameter.empty:
        return Any
    holder = types.SimpleNamespace(__annotations__={"value": annotation})
    try:
        return typing.get_type_hints(holder, globalns=dict(names), include_extras=True)["value"]
    except Exception:  # an annotation may run any code, and fail in any way
        return Any


def yaml_type(annotation: Any) -> Any:
    """The part of `annotation` that a YAML value can have: members of a union that YAML cannot write (a tensor, a
    callable) are left out; Any when nothing remains. A module is given by its name."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        members = [kind for kind in map(yaml_type, arguments) if kind is not Any]
        return Union[tuple(members)] if any(kind is not type(None) for kind in members) else Any  # noqa: UP007
    if origin in _CONTAINERS:
        inner = tuple(item if item in (..., ()) else yaml_type(item) for item in arguments)
        return cast(Any, origin)[inner] if inner else origin
    if _is_module(annotation):
        return ModuleName
    if annotation is numbers.Number:
        return int | float
    return annotation if _is_writable(annotation) else Any


def _is_module(annotation: Any) -> bool:
    lineage = getattr(annotation, "__mro__", ())
    torch_s = "torch.nn.modules.module.Module"  # by name: recipes do not import torch
    return WrittenModule in lineage or torch_s in [f"{kind.__module__}.{kind.__qualname__}" for kind in lineage]


def _is_writable(annotation: Any) -> bool:
    """Whether a value read from YAML can satisfy the annotation: it has a JSON Schema."""
    try:
        return _has_schema(annotation)
    except TypeError:  # it contains what cannot be hashed
        return _has_schema.__wrapped__(annotation)


@functools.lru_cache(maxsize=1024)
def _has_schema(annotation: Any) -> bool:
    """See `_is_writable`; pydantic takes milliseconds to find out, and the same few annotations are asked for."""
    try:
        with warnings.catch_warnings(action="ignore"):
            TypeAdapter(annotation).json_schema()
    except Exception:  # pydantic refuses in many ways, and a foreign type's hook may fail in any
        return False
    return True


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, what `Annotated` adds taken off; anything else is its own only one."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return alternatives(arguments[0])
    if origin in (Union, types.UnionType):
        return tuple(kind for member in arguments for kind in alternatives(member))
    return (annotation,)


def _plain(default: Any) -> Any:
    """A default as JSON can express it, or None: it only informs; the component applies its own."""
    default = plain(default)
    return default if isinstance(default, (str, int, float, bool, list, dict, type(None))) else None


_SPHINX = re.compile(r"^:param (?:[^:]+ )?\*{0,2}(\w+):[ \t]*(.*(?:\n[ \t]+.+)*)", re.M)
_SECTION = re.compile(
    r"^(?:Args|Arguments|Parameters):?[ \t]*\n(?:-+\n)?(.*?)(?=\n\S[^\n]*\n-{3,}|\n\S[^\n]*:\n|\Z)", re.M | re.S
)
_GOOGLE = re.compile(r"^[ \t]+\*{0,2}(\w+)(?: ?\([^)]*\))?:[ \t]*(.*(?:\n[ \t]{5,}.+)*)", re.M)
_NUMPY = re.compile(r"^(\w+)(?: ?:[^\n]*)?\n((?:[ \t]+.+\n?)+)", re.M)
_SENTENCE = re.compile(r"(?<=[.!?;])\s+(?=[A-Z`])|\n\s*\n")


def described_parameters(function: Callable[..., Any], names: Iterable[str]) -> dict[str, str]:
    """What the docstring of a function, or of a class and its `__init__`, says of the parameters called `names`: in
    Google's, numpy's or Sphinx's form, or in a sentence that names one."""
    texts = [inspect.getdoc(function) or ""]
    if inspect.isclass(function) and function.__init__.__doc__ != object.__init__.__doc__:
        texts.append(inspect.getdoc(function.__init__) or "")
    found: dict[str, str] = {}
    for text in texts:
        written = dict(_SPHINX.findall(text))
        for section in _SECTION.findall(text):
            written |= dict(_NUMPY.findall(section)) | dict(_GOOGLE.findall(section))
        for name in names:
            if said := _one_line(written.get(name, "")) or _sentence(text, name):
                found.setdefault(name, said)
    return found


def _sentence(text: str, name: str) -> str:
    """The first sentence behind the summary that speaks of `name`, in backquotes, by itself."""
    behind = text.partition("\n\n")[2]
    return next((_one_line(each) for each in _SENTENCE.split(behind) if f"`{name}`" in each), "")


def _one_line(text: str) -> str:
    return " ".join(text.split())
