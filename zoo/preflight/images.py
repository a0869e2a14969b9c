"""A network built for the images that a recipe's data section asks for: another size, other channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from zoo.contracts import Weights
from zoo.errors import InputError, ZooError
from zoo.model.assembly import Assembly
from zoo.model.input_fit import arguments_for
from zoo.model.preprocessing import CHANNELS, SIZES
from zoo.model.pretrained import prepared_for
from zoo.preflight.verdict import Verdict, placed
from zoo.recipe import Recipe
from zoo.steps.surgery import Surgery


def build_for_images(recipe: Recipe, verdict: Verdict, weights: Weights | None, build: Callable[[], Assembly]) -> None:
    """Let `build` make the verdict's network anew where the size or the channels of images decide how it is built.

    What the recipe says itself under `model.arguments` stays as it is. A mistake is placed in the data section.
    """
    assembly = verdict.assembly
    assert assembly is not None
    if recipe.data is None:
        return
    written = recipe.model.arguments if recipe.checkpoint is None else {}
    known = prepared_for(weights, assembly.preprocessing, verdict.arguments) if weights else assembly.preprocessing
    size, channels = recipe.data.image_size or known.size, recipe.data.channels
    size = (size, size) if isinstance(size, int) else size
    if any(key in written for key in SIZES):
        size = assembly.preprocessing.size
    try:
        if channels != "auto" and channels != assembly.preprocessing.channels:
            _check_said_once(written, channels)
        if channels == "auto" or any(_adapts_input(step) for step in recipe.steps):
            channels = assembly.preprocessing.channels
        verdict.built_for = arguments_for(assembly, size, channels)
        if verdict.built_for:
            verdict.assembly = build()
    except ZooError as error:
        about = "channels" if recipe.data.image_size is None or "channels" in str(error) else "image_size"
        verdict.errors += placed(recipe, ("data",), error, about=about)
        verdict.built_for, verdict.unfit = {}, True
        return
    if verdict.built_for:
        verdict.arguments |= verdict.built_for
        said = ", ".join(f"{key}: {value}" for key, value in verdict.built_for.items())
        verdict.fitted.append(f"model: built with {{{said}}} for these images")


def _check_said_once(written: Mapping[str, Any], channels: int) -> None:
    for key in CHANNELS:
        if key in written:
            message = f"data.channels is {channels}, and the network is built with {key}: {written[key]}"
            raise InputError(message, suggestion=f"remove data.channels, or {key} from model.arguments")


def _adapts_input(step: object) -> bool:
    return isinstance(step, Surgery) and step.component == "zoo/adapt_input"
