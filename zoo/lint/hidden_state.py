"""State that no state dict holds (plain attributes, buffers that are not persistent): a model loaded from its file
answers differently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import listed
from zoo.lint.trap import Trap
from zoo.model.assembly import Assembly
from zoo.model.build import build
from zoo.model.freezing import freeze
from zoo.model.operations import replay
from zoo.model.paths import join
from zoo.model.trace import tensors_in
from zoo.model.undisturbed import generators_kept

_TORCH_OWN = frozenset(nn.Module().__dict__)


def hidden_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Dotted names and tensors, those in lists and dicts of attributes too."""
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        for name in module._non_persistent_buffers_set:
            if (buffer := module._buffers.get(name)) is not None:
                yield f"{prefix}{name}", buffer
        for name, value in module.__dict__.items():
            if name not in _TORCH_OWN:
                yield from _tensors_inside(f"{prefix}{name}", value)


def _tensors_inside(name: str, value: Any) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors_inside(f"{name}[{key!r}]", item)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _tensors_inside(f"{name}[{index}]", item)


def hidden_differences(model: nn.Module, other: nn.Module) -> list[str]:
    """Names of hidden tensors that differ between two models of one structure, or that only one of them has."""
    mine, its = dict(hidden_tensors(model)), dict(hidden_tensors(other))
    return [name for name, tensor in mine.items() if name not in its or not _equal(tensor, its[name])]


def _equal(tensor: torch.Tensor, other: torch.Tensor) -> bool:
    same = tensor.shape == other.shape and tensor.dtype == other.dtype
    return same and bool(((tensor == other.to(tensor.device)) | (tensor != tensor)).all())


_DEPTH = 3  # containers inside containers that are looked into
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def unregistered(model: nn.Module) -> list[Trap]:
    """Modules and parameters in plain lists or dictionaries: in no state dict, no optimizer and not moved along."""
    known = {id(item) for item in (*model.modules(), *model.parameters())}
    lost = tuple(
        name
        for name, item in _attributes(model)
        if isinstance(item, nn.Module | nn.Parameter) and id(item) not in known
    )
    if not lost:
        return []
    message = f"{listed(lost)}: held in a plain list or attribute, so neither trained nor saved with the model"
    return [Trap("unregistered", lost, message, "hold modules in nn.ModuleList, parameters in nn.ParameterList")]


def hidden_state(assembly: Assembly, shape: tuple[int, ...]) -> list[Trap]:
    """Plain tensor attributes that make a network answer an input of `shape` differently once it is loaded.

    Constants and what is worked out from parameters are no trap: where a tensor is found, the network is built twice
    under different seeds, one is filled with the other's state dict, and their answers are compared.
    """
    if not any(_loose(item) for _, item in _attributes(assembly.model)):
        return []
    model, other = twin(assembly, 1), twin(assembly, 2)
    other.load_state_dict(model.state_dict())
    with torch.no_grad(), generators_kept():
        inputs = torch.randn(shape)
        answers = [list(tensors_in(network.eval()(inputs.clone()))) for network in (model, other)]
    if all(torch.allclose(a, b, **CLOSE, equal_nan=True) for a, b in zip(*answers, strict=True)):
        return []
    mine, theirs = (dict(_attributes(network)) for network in (model, other))
    names = tuple(name for name, item in mine.items() if _differ(item, theirs.get(name))) or ("the model",)
    message = (
        f"{listed(names)}: random numbers outside the state dict, so a model loaded from its file answers differently"
    )
    return [Trap("hidden_state", names, message, "register the tensor: self.register_buffer(name, tensor)")]


def twin(assembly: Assembly, seed: int = 0) -> nn.Module:
    """The same network built anew on the CPU under `seed`, its operations replayed and as much frozen."""
    with generators_kept():
        torch.manual_seed(seed)
        built = build(assembly.architecture, assembly.arguments, device="cpu")
        model = replay(built, assembly.operations).model
    if assembly.frozen is not None:
        freeze(model, (*assembly.frozen.parameters, *assembly.frozen.buffers, *assembly.frozen.modules))
    return model


def _attributes(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Tensors and modules among the modules' plain attributes, in containers too, by path."""
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if name not in _OWN:
                yield from _inside(join(path, name), value, _DEPTH)


def _inside(name: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Tensor | nn.Module):
        yield name, value
    elif depth and isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _inside(f"{name}[{index}]", item, depth - 1)
    elif depth and isinstance(value, dict):
        for key, item in value.items():
            yield from _inside(f"{name}[{key!r}]", item, depth - 1)


def _loose(item: Any) -> bool:
    return isinstance(item, Tensor) and not isinstance(item, nn.Parameter)  # recurrent layers list their parameters


def _differ(first: Any, second: Any) -> bool:
    both = _loose(first) and _loose(second)
    return both and (first.shape != second.shape or not torch.equal(first.cpu(), second.cpu()))


_OWN = frozenset(vars(nn.Module()))  # what every module has: its parameters, buffers, children and hooks
