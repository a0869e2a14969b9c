"""The dry run itself: build on `meta`, look at the weights' header, open the data, take the steps in order."""

from __future__ import annotations

from zoo.checkpoint.load import outline
from zoo.errors import ZooError
from zoo.model.build import build
from zoo.model.pretrained import build_arguments
from zoo.preflight.data import look_at_data
from zoo.preflight.rehearsal import Rehearsal
from zoo.preflight.verdict import Verdict, in_order, placed
from zoo.preflight.weights import know_weights, look_up_weights, plan_weights
from zoo.recipe import Recipe
from zoo.recipe.document import Path


def check(recipe: Recipe) -> Verdict:
    """Do everything `finetune` would do but load weights, download and train. Nothing is written.

    Every mistake is placed in the recipe; a mistake in one step does not hide those of the next.
    """
    verdict = Verdict()
    weights = look_up_weights(recipe, verdict)
    verdict.arguments = build_arguments(weights, recipe.model.arguments)
    try:
        if recipe.checkpoint is not None:
            verdict.assembly = outline(recipe.checkpoint.path)
        else:
            verdict.assembly = build(recipe.architecture, verdict.arguments, device="meta")
    except ZooError as error:
        place: Path = ("model", "arguments") if recipe.model.arguments else ("model", "architecture")
        verdict.errors += placed(recipe, ("model", "checkpoint") if recipe.checkpoint else place, error)
    known = know_weights(recipe, verdict, weights)
    sample = look_at_data(recipe, verdict, known)
    plan_weights(recipe, verdict, sample)
    if verdict.assembly is not None:
        Rehearsal(recipe, verdict, verdict.assembly, sample).run()
    verdict.errors = in_order(verdict.errors)
    verdict.warnings = in_order(verdict.warnings)
    return verdict
