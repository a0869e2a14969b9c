"""What a checked recipe is: its sections and the ordered chain of its steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from zoo.recipe.document import Document
from zoo.recipe.options import DataOptions, ModelOptions, Precision
from zoo.recipe.references import CheckpointReference, WeightsReference
from zoo.recipe.step import Step
from zoo.registry import Component


@dataclass(frozen=True)
class Recipe:
    """A recipe without a mistake that can be seen before the model is built.

    `architecture`, `weights` or `checkpoint`, and `dataset` are what the names in it stand for, found once. With a
    `checkpoint` it goes on from that file: `model` then says what the file says. `resolved` is the complete
    recipe as plain data, shorthands written out, overrides applied and plugins' components named in full: what reports
    and checkpoints keep. `components` are those among the options of steps and data. `document` finds the place of any
    value.
    """

    path: str
    name: str
    seed: int
    model: ModelOptions
    data: DataOptions | None
    steps: tuple[Step, ...]
    device: str
    precision: Precision
    resolved: dict[str, Any]
    architecture: Component
    weights: WeightsReference | None
    dataset: Component | None
    document: Document = field(repr=False, compare=False)
    checkpoint: CheckpointReference | None = None
    components: tuple[Component, ...] = ()
