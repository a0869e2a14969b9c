"""Build an architecture by name, and rebuild what a checkpoint describes."""

from __future__ import annotations

import contextlib
import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from zoo import registry
from zoo.contracts import Preprocessing
from zoo.errors import InputError, Problem, WorkError, did_you_mean, is_out_of_memory
from zoo.given import is_given
from zoo.isolation import failure_of
from zoo.model.assembly import Assembly
from zoo.model.info import assembly_of, info_of
from zoo.model.preprocessing import for_arguments
from zoo.plugin_calls import call, expect
from zoo.recipe.signature import converted

# These make upstream builders download or unpickle files; weights go through `weights:` and its plan.
_WEIGHTS_ARGUMENTS = ("pretrained", "checkpoint_path", "weights", "weights_backbone")
_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")

MODULES, MODULES_PER_TENSOR = 4_000, 10
"""How many modules a checkpoint may describe: a thin one has few tensors, any has some modules without one."""

LARGEST = 250_000
"""The largest whole number that any checkpoint's architecture may be built with; a large file's may be larger."""

Device = torch.device | str


def build(
    architecture: str | registry.Component,
    arguments: Mapping[str, Any] | None = None,
    *,
    device: Device | None = None,
) -> Assembly:
    """The named architecture with fresh parameters.

    `architecture` is a full name (`timm/resnet50`), a bare one while it is unique, or the component that was found by
    it. On `device="meta"` nothing is allocated; a constructor that reads numbers back gets real ones for all but its
    parameters, and `notes` says so.

    Raises InputError for an unknown or broken name and for arguments it does not take (with the nearest valid ones),
    WorkError when the constructor fails by itself.
    """
    component = registry.resolve(architecture, "architectures")
    given = _resolved(component, dict(arguments or {}))
    return _build(component, given, device)


def _build(component: registry.Component, given: dict[str, Any], device: Device | None) -> Assembly:
    """The architecture with these arguments as they are: with them a checkpoint is loaded, which may open no file."""
    _refuse_weights(component.name, given)
    make: Callable[..., nn.Module] = registry.load(component)
    notes: list[str] = []
    try:
        model = _make(make, converted(make, given), torch.device(device or "cpu"), notes)
    except (InputError, WorkError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a plugin's code may raise anything
        raise _explain(component, make, given, error) from error
    expect(component, model, nn.Module, "an nn.Module")
    if is_given(component.name) and (info := info_of(model)):  # one that zoo built: it knows how
        return assembly_of(model, info)
    prepared = for_arguments(preprocessing(component, given), given)
    return Assembly(model, component.name, given, prepared, notes=notes)


def rebuild(
    metadata: Mapping[str, Any], *, device: Device | None = None, tensors: int = 0, elements: int = 0
) -> Assembly:
    """The assembly a checkpoint's metadata describes: the architecture built and its operations replayed.

    `metadata` has an Assembly's `architecture`, `arguments`, `operations`, `preprocessing`, `classes`, `task`,
    `data`, `evaluation`, `thresholds` and `base_weights`. Parameters are left as memory happens to be (drawing them
    takes most of the time it takes to build a transformer): the caller fills every one. Buffers and constants are
    computed; on `meta` those that are no part of the state dict stay without values, so build on the device itself to
    use the model.
    `tensors` is how many the checkpoint has, and `elements` how many numbers these have: a network of far more modules,
    or with a side longer than that, is not its.
    Raises InputError where metadata names what is not installed or does not fit.
    """
    from zoo.model.operations import replay

    _check_numbers(metadata.get("arguments") or {}, max(LARGEST, elements))
    with _Unfilled(), _at_most(MODULES + MODULES_PER_TENSOR * tensors):
        component = registry.resolve(metadata["architecture"], "architectures")
        assembly = _build(component, dict(metadata.get("arguments") or {}), device)
        if described := metadata.get("preprocessing"):
            assembly.preprocessing = Preprocessing.from_dict(described)
        assembly.classes = tuple(metadata.get("classes") or ())
        assembly.task = metadata.get("task") or assembly.task
        assembly.base_weights = metadata.get("base_weights")
        assembly.data = metadata.get("data")
        assembly.evaluation = metadata.get("evaluation")
        assembly.thresholds = dict(metadata.get("thresholds") or {})
        return replay(assembly, metadata.get("operations") or [])


def _check_numbers(arguments: Any, most: int) -> None:
    """Raises InputError for a number that no network is built with: constructors count up to it first."""
    if isinstance(arguments, Mapping | list | tuple):
        for value in arguments.values() if isinstance(arguments, Mapping) else arguments:
            _check_numbers(value, most)
    elif isinstance(arguments, int) and abs(arguments) > most:
        raise InputError(f"it describes a network with {arguments:,} of something, which its tensors cannot fill")


@contextlib.contextmanager
def _at_most(modules: int) -> Iterator[None]:
    """Stops a constructor that makes more modules: a number in a file can ask for a million layers."""
    made = 0

    def count(*_: Any) -> None:
        nonlocal made
        made += 1
        if made > modules:
            raise InputError(f"it describes a network of more than {modules:,} modules, which its tensors cannot fill")

    hook = register_module_module_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


@contextlib.contextmanager
def parameters_on_meta() -> Iterator[None]:
    """The parameters of modules that are made in the block go to `meta`, where they take no memory, as each is made;
    buffers and constants are computed. A constructor that reads its parameters' numbers back raises."""
    made = WeakIdKeyDictionary()  # a parameter that is given to two modules stays one

    def emptied(_module: nn.Module, _name: str, value: nn.Parameter) -> nn.Parameter | None:
        if value.is_meta or is_lazy(value):
            return None
        if value not in made:
            made[value] = nn.Parameter(torch.empty_like(value, device="meta"), requires_grad=value.requires_grad)
        empty: nn.Parameter = made[value]
        return empty

    hook = register_module_parameter_registration_hook(emptied)  # type: ignore[arg-type]  # what it returns counts
    try:
        yield
    finally:
        hook.remove()


class _Unfilled(TorchFunctionMode):
    """Skips what initialisation does to parameters, element by element; everything else runs."""

    filling = frozenset(
        getattr(torch.Tensor, name)
        for name in ("uniform_", "normal_", "erfinv_", "fill_", "zero_", "mul_", "add_", "clamp_")
    )

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        if func in self.filling or getattr(func, "__module__", None) == "torch.nn.init":
            filled = args[0] if args else options.get("tensor")
            if isinstance(filled, nn.Parameter):
                return filled
        return func(*args, **options)


def preprocessing(component: registry.Component, arguments: Mapping[str, Any] | None = None) -> Preprocessing:
    """How an architecture's input images are prepared, as its source says; ImageNet's way where it says nothing.

    A source whose method has a parameter `arguments` sees those that the network is built with.
    """
    source = registry.load_source(component)
    if component.member is None or not hasattr(source, "preprocessing"):
        return Preprocessing()
    seen: dict[str, Any] = {}
    if "arguments" in inspect.signature(source.preprocessing).parameters:
        seen["arguments"] = dict(arguments or {})
    stated = call(
        component,
        lambda: source.preprocessing(component.member, None, **seen),
        failing="fails to say how images are prepared",
    )
    if stated is None:
        return Preprocessing()
    return expect(component, stated, Preprocessing, what="returned for its preprocessing")


def _resolved(component: registry.Component, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments to build with and to record, as the architecture's source writes them out, where it does."""
    source = registry.load_source(component)
    if component.member is None or not hasattr(source, "resolve"):
        return arguments
    failing = "fails to write its arguments out"
    found = dict(call(component, lambda: source.resolve(component.member, arguments), failing=failing))
    try:
        json.dumps(found, allow_nan=False)
    except (TypeError, ValueError) as error:
        message = f"{component.name} writes its arguments out as what a checkpoint cannot keep: {error}"
        raise WorkError(message) from error
    return found


def _make(
    make: Callable[..., nn.Module], arguments: dict[str, Any], device: torch.device, notes: list[str]
) -> nn.Module:
    try:
        with device, _Unfilled() if device.type == "meta" else contextlib.nullcontext():
            return make(**arguments)
    except (RuntimeError, NotImplementedError) as error:
        if device.type != "meta":
            raise
        with parameters_on_meta():  # its constructor reads numbers back
            model = make(**arguments).to(device)
        notes.append(f"built with some real memory: the constructor does not run on meta ({error})")
        return model


def _refuse_weights(name: str, arguments: Mapping[str, Any]) -> None:
    for key in _WEIGHTS_ARGUMENTS:
        if arguments.get(key):
            raise InputError(
                f"{name}: the argument {key!r} would load weights behind zoo's back",
                suggestion="name them under model.weights instead",
            )


def _explain(
    component: registry.Component, make: Callable[..., nn.Module], given: dict[str, Any], error: BaseException
) -> Exception:
    """The user's error where arguments were given, the architecture's own failure otherwise."""
    name, cause = component.name, failure_of(error, component.package)
    if isinstance(error, Exception) and is_out_of_memory(error):
        return error
    if not given:
        return WorkError(f"{name} cannot be built: {cause}")
    if wrong := _unexpected(make, given, error):
        known = _keywords(make)
        return InputError([Problem(f"{name} takes no argument {k!r}", None, did_you_mean(k, known)) for k in wrong])
    written = ", ".join(f"{key}={value!r}" for key, value in given.items())
    return InputError(f"{name} cannot be built with {written}: {cause}")


def _unexpected(make: Callable[..., nn.Module], given: dict[str, Any], error: BaseException) -> list[str]:
    """All arguments the builder does not know: Python names one at a time, so it is asked again without each."""
    wrong: list[str] = []
    while isinstance(error, TypeError) and (named := _UNEXPECTED.search(str(error))) and named.group(1) in given:
        wrong.append(named.group(1))
        given = {key: value for key, value in given.items() if key != wrong[-1]}
        try:
            with torch.device("meta"):
                make(**given)
        except Exception as further:
            error = further
        else:
            break
    return wrong


def _keywords(make: Callable[..., nn.Module]) -> set[str]:
    """The keyword arguments a builder takes: its own, or, behind `**kwargs`, those of the class it builds."""
    own = inspect.signature(make).parameters.values()
    if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in own):
        return {parameter.name for parameter in own}
    with contextlib.suppress(Exception), torch.device("meta"):
        built = inspect.signature(type(make()).__init__).parameters
        return set(built) - {"self"}
    return set()
