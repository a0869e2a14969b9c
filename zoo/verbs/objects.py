"""What Python code has at hand, for a verb: models, data sets and transforms as components while a call lasts."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError
from zoo.given import given, name_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from zoo.contracts import Data, Preprocessing
    from zoo.model.assembly import Assembly

PathLike = str | os.PathLike[str]


@contextlib.contextmanager
def handed_over(
    model: nn.Module | None, data: Any, transform: Callable[..., Any] | None, preprocessing: Preprocessing | None
) -> Iterator[dict[str, str | None]]:
    """Inside, the objects are components; yields the name of each, for the recipe."""
    objects: dict[str, dict[str, Callable[..., Any]]] = {}
    names: dict[str, str | None] = {"model": None, "data": None, "transform": None}
    if model is not None:
        names["model"] = name = name_of(model)
        objects["architectures"] = {name: _copies(model, name, preprocessing)}
    elif preprocessing is not None:
        raise InputError("preprocessing belongs to a model that is handed over", suggestion="add model=…")
    if data is not None:
        opened = as_data(data)
        names["data"] = name = name_of(opened.train)
        objects["datasets"] = {name: lambda: opened}
    if transform is not None:
        names["transform"] = name = name_of(transform)
        objects["transforms"] = {name: transform}
    with given(objects):
        yield names


def _copies(model: nn.Module, name: str, preprocessing: Preprocessing | None) -> Callable[[], nn.Module]:
    """What makes copies of a model, on the device that is the default when it is called, each knowing what it is."""
    import torch

    from zoo.checkpoint.save import check_structure
    from zoo.model.info import ModelInfo, assembly_of, attach, info_of

    if not isinstance(model, torch.nn.Module):
        raise InputError(f"model is {type(model).__name__}, not an nn.Module")
    info = info_of(model) or ModelInfo(name)
    check_structure(assembly_of(model, info))
    if preprocessing is not None:
        info = replace(info, preprocessing=preprocessing)

    def copied() -> nn.Module:
        return attach(assembly_of(copy.deepcopy(model).to(torch.empty(0).device), info))

    return copied


def as_data(data: Any) -> Data:
    """`data` itself, or a map-style data set of (input, class index) as one: what its first sample is decides."""
    import numpy as np
    import torch

    from zoo.contracts import Data
    from zoo.data.split import read

    if isinstance(data, Data):
        return data
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")) or isinstance(data, str | Mapping):
        message = f"data is {type(data).__name__}, not a map-style data set (with __len__ and __getitem__)"
        raise InputError(message, suggestion="a list of (input, target), a torch Dataset, or a zoo.Data")
    if not len(data):
        raise InputError("the data set has no samples")
    value, target = read(data, 0)
    if np.size(target) != 1 or float(target) != int(target) or np.asarray(target).dtype.kind == "f":
        message = f"the first target, {target!r}, is not a class index"
        raise InputError(message, suggestion='say what it is: zoo.Data(data, task="regression") or "multilabel"')
    floats = isinstance(value, torch.Tensor | np.ndarray) and torch.as_tensor(value).is_floating_point()
    return Data(data, classes=tuple(getattr(data, "classes", ())), inputs="features" if floats else "image")


@contextlib.contextmanager
def data_named(data: Any) -> Iterator[Any]:
    """Inside, a data set in memory is a component; yields what `zoo.training.evaluate` takes for it, or for `data`."""
    if data is None or isinstance(data, str | os.PathLike):
        yield None if data is None else _named(os.fspath(data))
        return
    opened = as_data(data)
    name = name_of(opened.train)
    with given({"datasets": {name: lambda: opened}}):
        yield name


def _named(text: str) -> Any:
    """The data section of a recipe's file; any other name or path as it is."""
    if not text.endswith((".yaml", ".yml")):
        return text
    from zoo.recipe import load_recipe

    if (section := load_recipe(text).data) is None:
        raise InputError(f"{text} has no data section")
    return section


def source_of(checkpoint: Any) -> Any:
    """A path as it is; of a model what zoo knows about it. Raises InputError for a model that zoo did not make."""
    if isinstance(checkpoint, str | os.PathLike):
        return checkpoint
    from zoo.model.info import assembly_of, info_of

    if (info := info_of(checkpoint)) is None:
        raise InputError(
            f"zoo does not know the classes and the preprocessing of this {type(checkpoint).__name__}",
            suggestion="write a checkpoint that says them, zoo.save(model, PATH, classes=…), and "
            "zoo.load(PATH, model=model)",
        )
    return assembly_of(checkpoint, info)


def device_of(checkpoint: Any, device: str | None) -> str:
    """Where it is run. Raises InputError where one is named for a model in memory, which is run where it is."""
    if isinstance(checkpoint, str | os.PathLike):
        return device or "auto"
    if device is not None:
        raise InputError("a model is run where it is", suggestion=f"move it: model.to({device!r})")
    return str(next((parameter.device for parameter in checkpoint.parameters()), "cpu"))


@contextlib.contextmanager
def evaluating(source: Assembly | PathLike) -> Iterator[None]:
    """A model in memory is in evaluation mode inside, and afterwards as it was."""
    if isinstance(source, str | os.PathLike):
        yield
        return
    from zoo.model.undisturbed import undisturbed

    with undisturbed(source.model, training=False):
        yield
