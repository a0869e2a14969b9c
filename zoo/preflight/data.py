"""The data as a dry run sees it: opened for its classes, never downloaded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo import registry
from zoo.contracts import Context, Preprocessing
from zoo.data import transforms
from zoo.data.open_data import OpenData, open_data
from zoo.errors import Problem, ZooError
from zoo.preflight.verdict import Verdict, placed
from zoo.recipe import Recipe
from zoo.recipe.options import DataOptions
from zoo.recipe.references import parameters_of

BATCH = 2
STAND_IN_CLASSES = 10  # for `auto`, where the data is not here to tell


@dataclass(frozen=True)
class Sample:
    """What the data says of the network around it. `outputs` is None where the data is not on this machine.

    `input_shape` is [b, c, h, w] of images, [b, …] of features.
    """

    context: Context
    input_shape: tuple[int, ...]
    outputs: int | None


def look_at_data(recipe: Recipe, verdict: Verdict, preprocessing: Preprocessing) -> Sample:
    """Open the data the recipe names. What is wrong with it goes into the verdict; a download is left for later."""
    if recipe.data is None:
        return _without(preprocessing, None)
    later = _downloads(recipe.data)
    here = {**recipe.data.arguments, "download": False} if later else recipe.data.arguments
    try:
        preprocessing = transforms.resolve(preprocessing, recipe.data)
        opened = open_data(recipe.data.model_copy(update={"arguments": here}), preprocessing, seed=recipe.seed)
        sample = Sample(opened.context, _shape(opened), opened.outputs)
    except ZooError as error:
        if later:
            said = f"{recipe.data.source} is not here yet, so the number of classes is not known"
            place = recipe.document.value(("data", "source"))
            verdict.warnings.append(Problem(said, place, "finetune downloads it"))
        else:
            verdict.errors += placed(recipe, ("data",), error)
        return _without(preprocessing, STAND_IN_CLASSES)
    verdict.outputs = sample.outputs
    return sample


def _downloads(options: DataOptions) -> bool:
    """Whether opening the dataset as the recipe says would fetch it."""
    known = parameters_of(registry.load(options.source, "datasets"), "datasets")
    return "download" in known and options.arguments.get("download", known["download"].default) is True


def _without(preprocessing: Preprocessing, classes: int | None) -> Sample:
    """What to assume where the data is not on this machine."""
    context = Context(classes, preprocessing=preprocessing)
    return Sample(context, (BATCH, preprocessing.channels, *preprocessing.size), None)


def _shape(opened: OpenData) -> tuple[int, ...]:
    part = opened.parts["train"]
    if part.preprocessing is None:
        value, _ = part.raw(0)
        return (BATCH, *np.shape(value))
    return (BATCH, opened.preprocessing.channels, *opened.preprocessing.size)
