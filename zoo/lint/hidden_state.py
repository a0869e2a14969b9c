"""State that is in no state dict (plain attributes, buffers that are not persistent).

A model loaded from its file then gives other outputs than the one that was saved.
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

_DEPTH = 3  # containers inside containers that are looked into
_TORCH_OWN = frozenset(vars(nn.Module()))  # what every module has: its parameters, buffers, children and hooks
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def unregistered(model: nn.Module) -> list[Trap]:
    """Modules and parameters in plain lists or dictionaries: in no state dict, no optimizer, and not moved along."""
    known = {id(item) for item in (*model.modules(), *model.parameters())}
    lost = tuple(
        name
        for name, item in _attributes(model)
        if isinstance(item, nn.Module | nn.Parameter) and id(item) not in known
    )
    if not lost:
        return []
    message = f"{listed(lost)}: in a plain list or attribute, so neither trained nor saved with the model"
    return [Trap("unregistered", lost, message, "put modules into nn.ModuleList, parameters into nn.ParameterList")]


def find_hidden_state(assembly: Assembly, shape: tuple[int, ...]) -> list[Trap]:
    """Plain tensor attributes that change a network's output for an input of `shape` once it is loaded from a file.

    Constants, and what is computed from parameters, are no trap: where there is such a tensor, the network is built
    twice under different seeds, one gets the other's state dict, and their outputs are compared.
    """
    if not any(_is_plain_tensor(item) for _, item in _attributes(assembly.model)):
        return []
    model, other = twin(assembly, 1), twin(assembly, 2)
    other.load_state_dict(model.state_dict())
    with torch.no_grad(), generators_kept():
        inputs = torch.randn(shape)
        outputs = [list(tensors_in(network.eval()(inputs.clone()))) for network in (model, other)]
    if all(torch.allclose(a, b, **CLOSE, equal_nan=True) for a, b in zip(*outputs, strict=True)):
        return []
    names = tuple(hidden_differences(model, other)) or ("the model",)
    message = (
        f"{listed(names)}: random numbers outside the state dict, so a model loaded from its file gives other outputs"
    )
    return [Trap("hidden_state", names, message, "register the tensor: self.register_buffer(name, tensor)")]


def hidden_differences(model: nn.Module, other: nn.Module) -> list[str]:
    """Names of hidden tensors that differ between two models of one structure, or that only one of them has."""
    mine, its = dict(hidden_tensors(model)), dict(hidden_tensors(other))
    return [name for name, tensor in mine.items() if name not in its or not _equal(tensor, its[name])]


def hidden_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Dotted names and tensors of what the state dict lacks, those in lists and dicts of attributes too."""
    for path, module in model.named_modules():
        for name in sorted(module._non_persistent_buffers_set):
            if (buffer := module._buffers.get(name)) is not None:
                yield join(path, name), buffer
    yield from ((name, item) for name, item in _attributes(model) if isinstance(item, Tensor))


def twin(assembly: Assembly, seed: int = 0) -> nn.Module:
    """The same network built anew on the CPU under `seed`, its operations replayed and the same part frozen."""
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
            if name not in _TORCH_OWN:
                yield from _inside(join(path, name), value, _DEPTH)


def _inside(name: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Tensor | nn.Module):
        yield name, value
    elif depth and isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _inside(f"{name}[{index}]", item, depth - 1)
    elif depth and isinstance(value, Mapping):
        for key, item in value.items():
            yield from _inside(f"{name}[{key!r}]", item, depth - 1)


def _is_plain_tensor(item: Any) -> bool:
    return isinstance(item, Tensor) and not isinstance(item, nn.Parameter)  # recurrent layers list their parameters


def _equal(tensor: Tensor, other: Tensor) -> bool:
    same = tensor.shape == other.shape and tensor.dtype == other.dtype
    return same and bool(((tensor == other.to(tensor.device)) | (tensor != tensor)).all())
