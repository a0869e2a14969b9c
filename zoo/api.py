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
    from zoo.file_name import name_mistake
    from zoo.finetuning.result import Run
    from zoo.finetuning.run import ActiveRun
    from zoo.formats.remote import file_beside
    from zoo.model.assembly import Assembly
    from zoo.model.heads import find_head, find_heads, replace_head
    from zoo.model.info import ModelInfo
    from zoo.model.load_into import load_into
    from zoo.model.operations import operate
    from zoo.model.paths import get_module, set_module
    from zoo.model.shapes import called_modules
    from zoo.model.trace import Recording, record
    from zoo.model.undisturbed import undisturbed
    from zoo.preflight.rehearsal import Rehearsal
    from zoo.recipe.document import Document
    from zoo.recipe.step import Step

__all__ = [
    "CONTRACTS",
    "ActiveRun",
    "ArchitectureSource",
    "Assembly",
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
    "called_modules",
    "file_beside",
    "find_head",
    "find_heads",
    "get_module",
    "load_into",
    "name_mistake",
    "operate",
    "record",
    "replace_head",
    "set_module",
    "undisturbed",
]

_LAZY = {
    "ActiveRun": "zoo.finetuning.run",
    "Assembly": "zoo.model.assembly",
    "Document": "zoo.recipe.document",
    "ModelInfo": "zoo.model.info",
    "Recording": "zoo.model.trace",
    "Rehearsal": "zoo.preflight.rehearsal",
    "file_beside": "zoo.formats.remote",
    "Run": "zoo.finetuning.result",
    "Step": "zoo.recipe.step",
    "called_modules": "zoo.model.shapes",
    "find_head": "zoo.model.heads",
    "find_heads": "zoo.model.heads",
    "get_module": "zoo.model.paths",
    "load_into": "zoo.model.load_into",
    "name_mistake": "zoo.file_name",
    "operate": "zoo.model.operations",
    "record": "zoo.model.trace",
    "replace_head": "zoo.model.heads",
    "set_module": "zoo.model.paths",
    "undisturbed": "zoo.model.undisturbed",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'zoo.api' has no attribute {name!r}")
