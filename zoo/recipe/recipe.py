"""What a checked recipe is: the sections and the ordered chain of steps, each knowing where it was written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from zoo.errors import Location
from zoo.recipe.document import Document
from zoo.recipe.options import DataOptions, ModelOptions, Options, Precision
from zoo.recipe.references import WeightsReference
from zoo.registry import Component

Kind = Literal["surgery", "freeze", "init", "load", "train", "probe", "evaluate", "look", "save"]


@dataclass(frozen=True)
class Step:
    """One link of the chain.

    `action` is the word written (`swap_head`, `freeze`, `train`), `component` the full registry name of a surgery or
    of a freezing policy. `arguments` are plain YAML values; `options` is the validated model of the steps that are not
    components. `index` counts from 0 in the recipe.
    """

    action: str
    kind: Kind
    component: str | None
    arguments: dict[str, Any]
    options: Options | None
    location: Location
    index: int


@dataclass(frozen=True)
class Recipe:
    """A recipe without a mistake that can be seen before the model is built.

    `architecture`, `weights` and `dataset` are what the names in it stand for, found once. `resolved` is the whole
    recipe as plain data, shorthands written out and overrides applied: what reports and checkpoints keep. `document`
    finds the place of any value in it.
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
