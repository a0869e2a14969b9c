"""What plugins import: the dataclasses of each contract, the errors, and helpers. Importing this imports no torch.

A component is a plain callable with a typed signature; the signature is its schema. What each kind is called with
and has to return stands in `CONTRACTS`, which `zoo show` prints. Helpers that need torch (`replace_head`, …) are
imported when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from zoo.contracts import (
    CONTRACTS,
    ArchitectureSource,
    Callback,
    Context,
    Data,
    Preprocessing,
    TrackedRun,
    Tracker,
    Training,
    Weights,
)
from zoo.errors import InputError, WorkError, ZooError

if TYPE_CHECKING:
    from zoo.finetuning.result import Run
    from zoo.finetuning.run import ActiveRun
    from zoo.model.heads import find_head, replace_head
    from zoo.model.info import ModelInfo
    from zoo.model.paths import get_module, set_module
    from zoo.model.trace import Recording, record
    from zoo.model.undisturbed import undisturbed
    from zoo.preflight.rehearsal import Rehearsal
    from zoo.recipe.document import Document
    from zoo.recipe.step import Step

__all__ = [
    "CONTRACTS",
    "ActiveRun",
    "ArchitectureSource",
    "Callback",
    "Context",
    "Data",
    "Document",
    "InputError",
    "ModelInfo",
    "Preprocessing",
    "Recording",
    "Rehearsal",
    "Run",
    "Step",
    "TrackedRun",
    "Tracker",
    "Training",
    "Weights",
    "WorkError",
    "ZooError",
    "find_head",
    "get_module",
    "record",
    "replace_head",
    "set_module",
    "undisturbed",
]

_LAZY = {
    "ActiveRun": "zoo.finetuning.run",
    "Document": "zoo.recipe.document",
    "Recording": "zoo.model.trace",
    "Rehearsal": "zoo.preflight.rehearsal",
    "record": "zoo.model.trace",
    "undisturbed": "zoo.model.undisturbed",
    "ModelInfo": "zoo.model.info",
    "Run": "zoo.finetuning.result",
    "replace_head": "zoo.model.heads",
    "find_head": "zoo.model.heads",
    "get_module": "zoo.model.paths",
    "set_module": "zoo.model.paths",
    "Step": "zoo.recipe.step",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'zoo.api' has no attribute {name!r}")
