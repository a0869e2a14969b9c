"""The weights as a dry run sees them: found, and planned by names and shapes where they are on this machine."""

from __future__ import annotations

from pathlib import Path as FilePath

from torch import nn

from zoo.contracts import Preprocessing, Weights
from zoo.errors import Problem, ZooError
from zoo.formats import open_source
from zoo.model.heads import find_heads
from zoo.model.load_into import LoadReport, target_of
from zoo.model.load_into import check as check_report
from zoo.model.pretrained import check_architecture
from zoo.preflight.verdict import FoundWeights, Verdict, placed
from zoo.recipe import Recipe
from zoo.recipe.document import Path
from zoo.recipe.options import ModelOptions
from zoo.remap.plan import Target
from zoo.remap.remaps import Planned, items, plan_source
from zoo.steps.load import Load
from zoo.steps.surgery import Surgery


def look_at_weights(recipe: Recipe, verdict: Verdict) -> Preprocessing:
    """Look up the weights of `model:` and plan their load, for the verdict; the preprocessing they were trained on.

    What is wrong with them goes into the verdict. Without weights it is the architecture's own preprocessing.
    """
    assembly = verdict.assembly
    own = assembly.preprocessing if assembly is not None else Preprocessing()
    if recipe.weights is None:
        return own
    try:
        weights = recipe.weights.look_up(recipe.architecture.name)
        check_architecture(weights, recipe.architecture.name)
    except ZooError as error:
        verdict.errors += placed(recipe, ("model", "weights"), error)
        return own
    if assembly is not None:
        ignored = tuple(replaced_heads(recipe, assembly.model))
        target = target_of(assembly.model, ignored=ignored)
        planned = _plan(recipe, verdict, ("model",), target, weights, recipe.model)
        verdict.weights = FoundWeights(recipe.weights.name, weights, ignored, planned)
    return weights.preprocessing or own


def look_at_load(recipe: Recipe, verdict: Verdict, step: Load, target: Target) -> None:
    """Look up the weights of a `load` step and plan their load into what the model then is, for the verdict."""
    path = step.place.path
    try:
        weights = step.found.look_up(recipe.architecture.name)
    except ZooError as error:
        verdict.errors += placed(recipe, (*path, "weights"), error)
        return
    planned = _plan(recipe, verdict, path, target, weights, step, strict_shapes=step.strict_shapes)
    verdict.loads[step.place.index] = FoundWeights(step.found.name, weights, planned=planned)


def _plan(
    recipe: Recipe,
    verdict: Verdict,
    path: Path,
    target: Target,
    found: Weights,
    options: ModelOptions | Load,
    *,
    strict_shapes: bool = True,
) -> Planned | None:
    """Plan the load on names and shapes. Weights that are not on this machine, or that a library's own code converts,
    are judged when they are loaded: then it is None, as it is for a mistake."""
    if found.convert is not None or not FilePath(found.location).exists():
        return None
    try:
        with open_source(found.location) as source:
            planned = plan_source(source, items(found.remap, options.remap), target)
            report = LoadReport(found.location, source.kind, planned.plan, planned.rules, planned.notes)
            check_report(report, options.min_coverage, strict_shapes=strict_shapes)
    except ZooError as error:
        verdict.errors += placed(recipe, (*path, "weights"), error)
        return None
    for rule, part in planned.plan.unused:
        said = f"the rule {rule.as_mapping()} finds nothing to do{f': {part}' if part else ''}"
        verdict.warnings.append(Problem(said, recipe.document.value((*path, "remap")), "remove it"))
    return planned


def replaced_heads(recipe: Recipe, model: nn.Module) -> list[str]:
    """The classifiers that a step of the recipe puts others in the place of: weights need not fill them."""
    try:
        heads = find_heads(model)
    except ZooError:
        return []
    surgeries = [step for step in recipe.steps if isinstance(step, Surgery)]
    if any(step.component.endswith("/swap_head") for step in surgeries):
        return heads
    paths = [step.arguments.get("path") for step in surgeries if step.component.endswith("/replace_module")]
    return [head for head in heads if head in paths]
