"""What zoo knows about a model, kept on the model itself: `model.zoo`."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, fields, replace
from typing import Any

from torch import nn

from zoo.contracts import Preprocessing
from zoo.model.assembly import Assembly
from zoo.model.freezing import FrozenPart


@dataclass(frozen=True)
class ModelInfo:
    """How a model was made and what it is for: enough to write a checkpoint that rebuilds it.

    `architecture` is the full name and `arguments` what it was built with; `operations` are the structural steps since,
    as a checkpoint keeps them. `classes` are the outputs' names, `task` is "classification", "multilabel" or
    "regression". `base_weights` names the weights that went in first, `data` the data it was trained on, `evaluation`
    the loss and the metrics that it is measured with, `thresholds` the probability from which on each label of a
    multilabel network counts as there (0.5 of one without). `frozen` are the parameters that training left alone, by
    their names in the state dict.

    It holds no reference to the model, so a copy of the model (`copy.copy`, `copy.deepcopy`, pickle) has its own.
    """

    architecture: str
    arguments: dict[str, Any] = field(default_factory=dict)
    operations: tuple[dict[str, Any], ...] = ()
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    classes: tuple[str, ...] = ()
    task: str = "classification"
    base_weights: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    evaluation: dict[str, Any] | None = None
    thresholds: dict[str, float] = field(default_factory=dict)
    frozen: tuple[str, ...] = ()


_SHARED = tuple(entry.name for entry in fields(ModelInfo) if entry.name not in ("operations", "frozen"))


def attach(assembly: Assembly) -> nn.Module:
    """The assembly's model, with what is known about it as its attribute `zoo`."""
    known = {name: copy.deepcopy(getattr(assembly, name)) for name in _SHARED}
    frozen = assembly.frozen.parameters if assembly.frozen else ()
    info = ModelInfo(**known, operations=tuple(copy.deepcopy(assembly.operations)), frozen=frozen)
    assembly.model.__dict__["zoo"] = info
    return assembly.model


def info_of(model: nn.Module) -> ModelInfo | None:
    """What `attach` put there; None for a model that zoo did not make."""
    info = model.__dict__.get("zoo")
    return info if isinstance(info, ModelInfo) else None


def with_frozen(model: nn.Module, part: FrozenPart) -> None:
    """Let `model.zoo` say what is frozen now, where zoo made the model."""
    if (info := info_of(model)) is not None:
        model.__dict__["zoo"] = replace(info, frozen=part.parameters)


def assembly_of(model: nn.Module, info: ModelInfo) -> Assembly:
    """The assembly of a model that `attach` was given, as things stand now; the model is not copied."""
    known = {name: copy.deepcopy(getattr(info, name)) for name in _SHARED}
    operations = copy.deepcopy(list(info.operations))
    return Assembly(model, **known, operations=operations, frozen=FrozenPart(info.frozen) if info.frozen else None)
