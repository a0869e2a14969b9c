"""The `init` step: fill parameters with torch.nn.init's functions or a plugin's, or set one value."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from zoo.errors import InputError, Problem, ZooError, did_you_mean, listed
from zoo.expressions import Expression
from zoo.isolation import failure_of
from zoo.model.freeze_policies import role
from zoo.model.paths import join
from zoo.recipe.catalogue import find
from zoo.recipe.options import Named
from zoo.recipe.signature import annotated, converted

if TYPE_CHECKING:
    from zoo.steps.init import Init

Fill = Callable[[Tensor], object]


def initialize(model: nn.Module, options: Init) -> list[str]:
    """Fill parameters as one `init` step says; returns their names.

    `type` is the name of a module's class or of a base class of it, `match` is searched in module paths; modules that
    fit both get their own weights (`weight`, `in_proj_weight`, …) and biases filled. Random numbers come from torch's
    global generator, in order of registration: the same seed gives the same values. A shared parameter is filled once;
    a frozen one is left as it is. On `meta` everything is checked and nothing is written.

    Raises InputError with all mistakes: a name or argument that does not exist, a selector that matches nothing that
    trains, an initializer that does not take a parameter's shape.
    """
    single = options.parameter is not None or options.value is not None or options.index is not None
    with torch.no_grad():
        return _set_value(model, options) if single else _fill_modules(model, options)


def _fill_modules(model: nn.Module, options: Init) -> list[str]:
    problems: list[Problem] = []
    jobs: list[tuple[str, nn.Parameter, Fill]] = []
    modules = _selected(model, options)
    for kind, written in (("weight", options.weight), ("bias", options.bias)):
        if written is None:
            continue
        try:
            fill = _initializer(written)
            jobs += [(name, parameter, fill) for name, parameter in _parameters(model, modules, kind, options)]
        except InputError as error:
            problems.extend(error.problems)
    if not jobs and not problems:
        problems.append(Problem("init: nothing to fill in with", None, "write weight or bias"))
    for name, parameter, fill in jobs:
        with _explained(name, parameter, problems):
            fill(parameter)
    if problems:
        raise InputError(problems)
    return [name for name, _, _ in jobs]


def _selected(model: nn.Module, options: Init) -> dict[str, nn.Module]:
    """The modules that `type` and `match` pick, by path. Raises InputError when there are none."""
    modules = dict(model.named_modules(remove_duplicate=False))
    if options.type is not None:
        kinds = {path: [base.__name__ for base in type(module).__mro__] for path, module in modules.items()}
        known = sorted({type(module).__name__ for module in modules.values()})
        modules = {path: module for path, module in modules.items() if options.type in kinds[path]}
        if not modules:
            hint = did_you_mean(options.type, known)
            raise InputError(
                f"init: the model has no module of type {options.type!r}, only {listed(known)}", suggestion=hint
            )
    if options.match is not None:
        try:
            expression = Expression(options.match)
        except ValueError as error:
            raise InputError(f"init: {error}") from None
        found = {path: module for path, module in modules.items() if expression.search(path)}
        if not found:
            hint = did_you_mean(re.sub(r"[\\^$]", "", options.match), modules)
            what = f" of type {options.type}" if options.type else ""
            raise InputError(f"init: no module{what} is matched by {options.match!r}", suggestion=hint)
        modules = found
    return modules


def _parameters(
    model: nn.Module, modules: dict[str, nn.Module], kind: str, options: Init
) -> list[tuple[str, nn.Parameter]]:
    """The parameters of a kind that the modules own and that train. Raises InputError when there are none."""
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    own = {
        first[id(parameter)]: parameter
        for module in modules.values()
        for name, parameter in module.named_parameters(recurse=False)
        if role(name) == kind
    }
    trainable = [(name, parameter) for name, parameter in own.items() if parameter.requires_grad]
    if trainable:
        return trainable
    chosen = " and ".join(f"{key} {value!r}" for key in ("type", "match") if (value := getattr(options, key)))
    what = f"init: no module{f' of {chosen}' if chosen else ''} has a {kind}"
    if own:
        raise InputError(f"{what} that trains: {listed(own)} is frozen", suggestion="put init in front of freeze")
    raise InputError(what)


def _initializer(written: Named) -> Fill:
    """What fills a tensor, its arguments bound. Raises InputError for names and arguments that do not exist."""
    name, arguments = (written, {}) if isinstance(written, str) else next(iter(written.items()))
    function = cast(Callable[..., object], find("initializers", name))
    known = dict(list(annotated(function).items())[1:])
    known.pop("generator", None)
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    problems = [
        Problem(
            f"{name} takes no argument {key!r}",
            None,
            did_you_mean(key, known) or f"it takes {listed(known) or 'nothing'}",
        )
        for key in arguments
        if key not in known and not open_ended
    ]
    for key, parameter in known.items():
        named = parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        if named and parameter.default is parameter.empty and key not in arguments:
            problems.append(Problem(f"{name} needs {key}", None, f"write {{{name}: {{{key}: …}}}}"))
    if problems:
        raise InputError(problems)
    return functools.partial(function, **converted(function, arguments))


@contextlib.contextmanager
def _explained(name: str, parameter: Tensor, problems: list[Problem]) -> Any:
    """What an initializer cannot do with a parameter becomes a problem with its name and shape."""
    try:
        yield
    except NotImplementedError as error:
        if not parameter.is_meta:
            problems.append(Problem(f"init: {name} {list(parameter.shape)}: {error}"))
    except ZooError as error:
        problems.extend(error.problems)
    except Exception as error:
        cause = str(failure_of(error))
        problems.append(Problem(f"init: {name} {list(parameter.shape)} cannot be filled so: {cause}"))


def _set_value(model: nn.Module, options: Init) -> list[str]:
    several = [key for key in ("match", "type", "weight", "bias") if getattr(options, key) is not None]
    if several:
        raise InputError(f"init: {several[0]} fills modules, parameter and value set one; a step does one of the two")
    if options.parameter is None or options.value is None:
        raise InputError("init: setting a value takes both parameter and value")
    places: dict[str, Tensor] = {
        join(path, name): tensor
        for path, module in model.named_modules(remove_duplicate=False)
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    }
    if options.parameter not in places:
        hint = did_you_mean(options.parameter, places)
        raise InputError(f"init: the model has no parameter {options.parameter!r}", suggestion=hint)
    tensor, index = places[options.parameter], options.index or []
    if isinstance(tensor, nn.Parameter) and not tensor.requires_grad:
        raise InputError(f"init: {options.parameter} is frozen", suggestion="put init in front of freeze")
    shape = list(tensor.shape)
    if len(index) > len(shape) or any(not -size <= i < size for i, size in zip(index, shape, strict=False)):
        raise InputError(f"init: {options.parameter} is {shape}; there is no element {index}")
    tensor[tuple(index)] = options.value
    return [options.parameter]
