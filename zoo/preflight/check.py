"""The dry run itself: build on `meta`, look at the weights' header, open the data, take the steps in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from zoo.checkpoint.load import outline
from zoo.contracts import Weights
from zoo.errors import InputError, ZooError
from zoo.model.assembly import Assembly
from zoo.model.build import build
from zoo.model.input_fit import arguments_for
from zoo.model.preprocessing import CHANNELS, SIZES
from zoo.model.pretrained import build_arguments, prepared_for
from zoo.preflight.data import look_at_data
from zoo.preflight.rehearsal import Rehearsal
from zoo.preflight.verdict import Verdict, in_order, placed
from zoo.preflight.weights import know_weights, look_up_weights, plan_weights
from zoo.recipe import Recipe
from zoo.recipe.document import Path
from zoo.steps.surgery import Surgery


def check(recipe: Recipe, *, images: bool = False) -> Verdict:
    """Do everything `finetune` would do but load weights, download and train. Nothing is written.

    Every mistake is placed in the recipe; a mistake in one step does not hide those of the next. With `images` all
    samples are read, not some of each part.
    """
    verdict = Verdict()
    weights = look_up_weights(recipe, verdict)
    verdict.arguments = build_arguments(weights, recipe.model.arguments)
    try:
        verdict.assembly = _built(recipe, verdict)
    except ZooError as error:
        place: Path = ("model", "arguments") if recipe.model.arguments else ("model", "architecture")
        verdict.errors += placed(recipe, ("model", "checkpoint") if recipe.checkpoint else place, error)
    else:
        build_for_images(recipe, verdict, weights, lambda: _built(recipe, verdict))
    known = know_weights(recipe, verdict, weights)
    sample = look_at_data(recipe, verdict, known, images=images)
    plan_weights(recipe, verdict, sample)
    if verdict.assembly is not None:
        Rehearsal(recipe, verdict, verdict.assembly, sample).run()
    verdict.errors = in_order(verdict.errors)
    verdict.warnings = in_order(verdict.warnings)
    return verdict


def _built(recipe: Recipe, verdict: Verdict) -> Assembly:
    if recipe.checkpoint is not None:
        return outline(recipe.checkpoint.path, arguments=verdict.built_for)
    return build(recipe.architecture, {**verdict.arguments, **verdict.built_for}, device="meta")


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
