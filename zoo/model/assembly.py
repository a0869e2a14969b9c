"""What a recipe works on: the built model and all that a checkpoint needs to say about how it came to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import nn

from zoo.contracts import Preprocessing

if TYPE_CHECKING:
    from zoo.model.freezing import FrozenPart


@dataclass
class Assembly:
    """A model and its history.

    `architecture` is the full name and `arguments` what it was built with. `operations` are the structural steps in
    order, each `{"surgery": full name, "arguments": {…}}`, JSON-able, with every inferred value written out: replaying
    them on a freshly built architecture gives the same structure. `base_weights` names the weights that went in first
    (`{"name", "sha256", …}`). `data` is the recipe's data section and the seed of its split (`{"options", "seed"}`), by
    which `zoo evaluate` finds the held-out samples again; `evaluation` says what is measured on them (`{"loss",
    "metrics"}` as a recipe names them, and the `part` that a checkpoint's own numbers are of). `thresholds` are the
    probabilities from which on labels of a multilabel network count as there, by label; 0.5 of one without. `obsolete`
    are the indices of operations that a later one took back, that one included; `notes` are remarks for the person:
    neither is kept in a checkpoint. `used` are the distributions of the plugins behind the recipe's options.
    """

    model: nn.Module
    architecture: str
    arguments: dict[str, Any] = field(default_factory=dict)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    operations: list[dict[str, Any]] = field(default_factory=list)
    base_weights: dict[str, Any] | None = None
    classes: tuple[str, ...] = ()
    task: str = "classification"
    data: dict[str, Any] | None = None
    evaluation: dict[str, Any] | None = None
    frozen: FrozenPart | None = None
    thresholds: dict[str, float] = field(default_factory=dict)
    obsolete: set[int] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    used: tuple[str, ...] = ()
