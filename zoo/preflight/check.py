"""The dry run itself: build on `meta`, look at the weights' header, open the data, take the steps in order."""

from __future__ import annotations

from zoo.checkpoint.load import outline
from zoo.errors import ZooError
from zoo.model.assembly import Assembly
from zoo.model.build import build
from zoo.model.pretrained import build_arguments
from zoo.preflight.data import look_at_data
from zoo.preflight.images import build_for_images
from zoo.preflight.rehearsal import Rehearsal
from zoo.preflight.verdict import Verdict, in_order, placed
from zoo.preflight.weights import know_weights, look_up_weights, plan_weights
from zoo.recipe import Recipe
from zoo.recipe.document import Path


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
