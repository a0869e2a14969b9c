"""`zoo.save` and `zoo.freeze`: a model in memory written as a checkpoint, or frozen in part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from zoo.errors import InputError
from zoo.given import is_given, name_of
from zoo.verbs.objects import PathLike

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from zoo.contracts import Preprocessing
    from zoo.registry import Component


def save(
    model: nn.Module,
    path: PathLike,
    *,
    classes: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    task: str | None = None,
    metrics: Mapping[str, Any] | None = None,
    only: Literal["all", "trainable"] = "all",
    dtype: str | None = None,
) -> dict[str, Any]:
    """Write a model as one checkpoint that describes itself; a file that is there is replaced.

    Args:
        model: built or loaded by zoo, so that `zoo.load(path)` needs nothing else. Of a model that zoo did not make
            the checkpoint names the class, and is loaded by `zoo.load(path, model=AFreshInstance())`.
        classes, preprocessing, task: what the checkpoint says of them, where `model.zoo` does not or says otherwise.
        metrics: plain values that the file keeps.
        only: `trainable` leaves out what the base weights give bit for bit; `zoo.load` then needs them.
        dtype: store floating-point tensors as `float32`, `float16` or `bfloat16`.

    Returns `{"path", "sha256", "bytes", "tensors", "only"}`. Raises InputError where the model is no longer what zoo
    built, or its state dict holds what cannot be saved; WorkError where the disk is full.
    """
    from zoo.checkpoint.save import check_structure, save_checkpoint
    from zoo.model.info import ModelInfo, assembly_of, info_of

    known = info_of(model) or ModelInfo(name_of(model))
    given_here: dict[str, Any] = {
        "classes": tuple(classes) if classes is not None else None,
        "preprocessing": preprocessing,
    }
    given_here |= {"task": task}
    info = replace(known, **{key: value for key, value in given_here.items() if value is not None})
    if only == "trainable" and is_given(info.architecture):
        message = "only='trainable' needs an architecture that zoo can build, to know what its weights give"
        raise InputError(message, suggestion="save all of it")
    assembly = assembly_of(model, info)
    check_structure(assembly)
    return save_checkpoint(assembly, path, metrics=metrics, only=only, dtype=dtype)


@dataclass(frozen=True)
class Frozen:
    """What `zoo.freeze` left frozen: numbers of parameters (elements), and the names of the frozen tensors."""

    trainable: int
    frozen: int
    parameters: tuple[str, ...]
    buffers: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.frozen:,} of {self.trainable + self.frozen:,} parameters are frozen"


def freeze(model: nn.Module, policy: str | Iterable[str] = "all_but_head", **arguments: Any) -> Frozen:
    """Freeze what a policy says, and only that: no gradient, evaluation mode whatever calls `train()`.

    Args:
        policy: the name of a freezing policy (`zoo list --kind freezing`), whose `arguments` follow; or names of
            parameters, buffers and modules (with all that is inside them), where what is no name is a regular
            expression on names. "none" unfreezes.

    Raises InputError where a policy or a name does not exist or matches nothing, with the nearest ones.
    """
    from zoo import registry
    from zoo.model.freezing import freeze as freeze_names
    from zoo.model.info import with_frozen

    if isinstance(policy, str):
        component = registry.resolve(policy, "freezing")
        names = _names_by(component, registry.load(component), model, arguments)
    elif arguments:
        raise InputError(f"{', '.join(arguments)} belong to a named policy, not to a list of names")
    else:
        names = _names_of(model, policy)
    part = freeze_names(model, names)
    with_frozen(model, part)
    sizes = dict.fromkeys((True, False), 0)
    for parameter in model.parameters():
        sizes[parameter.requires_grad] += parameter.numel()
    return Frozen(sizes[True], sizes[False], part.parameters, part.buffers)


def _names_by(
    component: Component, policy: Callable[..., Iterable[str]], model: nn.Module, arguments: Any
) -> list[str]:
    import inspect

    from zoo.plugin_calls import call, texts

    try:
        inspect.signature(policy).bind(model, **arguments)
    except TypeError as error:
        name = component.name
        raise InputError(f"{name}: {error}", suggestion=f"see: zoo show {name}") from error
    return texts(component, call(component, lambda: policy(model, **arguments)), "dotted names")


def _names_of(model: nn.Module, given_names: Iterable[str]) -> list[str]:
    """Names as they are; what is none is a regular expression on names."""
    from zoo.model.freeze_policies import pattern

    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    known = {name for name, _ in (*tensors, *model.named_modules(remove_duplicate=False))}
    wanted = list(given_names)
    patterns = [name for name in wanted if name not in known]
    return [*(name for name in wanted if name in known), *(pattern(model, patterns=patterns) if patterns else ())]
