"""The weights as a dry run sees them: found, and planned by names and shapes where they are on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from torch import nn

from zoo import registry
from zoo.contracts import Preprocessing, Weights
from zoo.errors import Problem, ZooError
from zoo.formats import Source, open_source
from zoo.formats.dtypes import FLOATING
from zoo.formats.names import grouped
from zoo.given import is_given
from zoo.model.fitting import fitting_arguments
from zoo.model.heads import heads_if_any
from zoo.model.input_fit import InputFit
from zoo.model.load_into import LoadReport, fitted, target_of
from zoo.model.load_into import check as check_report
from zoo.model.pretrained import check_architecture, classes_after, prepared_for
from zoo.preflight.verdict import FoundWeights, Known, Verdict, placed
from zoo.recipe import Recipe
from zoo.recipe.document import Path
from zoo.recipe.options import ModelOptions
from zoo.recipe.references import parameters_of
from zoo.recipe.validate import shown
from zoo.remap.plan import Plan, Target
from zoo.remap.remaps import Planned, Remap, items, plan_source, rules_of
from zoo.remap.rules import Rule
from zoo.remap.rules.adapt import AdaptClassesRule
from zoo.remap.rules.base import AUTO
from zoo.steps.load import Load
from zoo.steps.probe import Probe
from zoo.steps.save import Save
from zoo.steps.surgery import Surgery

if TYPE_CHECKING:
    from zoo.preflight.data import Sample


def look_up_weights(recipe: Recipe, verdict: Verdict) -> Weights | None:
    """Where the weights of `model:` lie and what they take; None without any, and for a mistake, which goes into the
    verdict."""
    if recipe.weights is None:
        return None
    try:
        weights = recipe.weights.look_up(recipe.architecture.name)
        check_architecture(weights, recipe.architecture.name, recipe.model.remap)
    except ZooError as error:
        verdict.errors += placed(recipe, ("model", "weights"), error)
        return None
    return weights


def know_weights(recipe: Recipe, verdict: Verdict, weights: Weights | None) -> Known:
    """What the weights, or the architecture without any, say of the data; into the verdict, too."""
    verdict.known = _known(recipe, verdict, weights)
    return verdict.known


def _known(recipe: Recipe, verdict: Verdict, weights: Weights | None) -> Known:
    assembly = verdict.assembly
    own = assembly.preprocessing if assembly is not None else Preprocessing()
    kept = not replacing(recipe) and not isinstance(next((s for s in recipe.steps if s.needs_data), None), Probe)
    if recipe.weights is None:
        return Known(own, assembly.classes if assembly is not None else (), kept)
    if weights is None:
        return Known(own)
    classes = classes_after(weights, rules_written(weights, recipe.model.remap))
    if assembly is not None:
        ignored = tuple(replaced_heads(recipe, assembly.model))
        verdict.weights = FoundWeights(recipe.weights.name, weights, ignored, arguments=recipe.weights.arguments)
        assembly.classes = classes
    return Known(prepared_for(weights, own, verdict.arguments), classes, kept)


def plan_weights(recipe: Recipe, verdict: Verdict, sample: Sample) -> None:
    """Plan the load of the weights that were looked up, for the verdict."""
    if verdict.weights is None or verdict.assembly is None:
        return
    found, classes = verdict.weights, sample.context.classes
    if needs_classes(found.weights, recipe.model.remap) and not classes and recipe.data is not None:
        return  # the data is not here yet; it is planned when it is
    target = target_of(verdict.assembly.model, ignored=found.ignored, classes=classes)
    planned = _plan(recipe, verdict, ("model",), target, found.weights, recipe.model)
    verdict.weights = replace(found, planned=planned)


def needs_classes(weights: Weights, remap: Remap) -> bool:
    """Whether a rule picks rows of a classifier by the class names of the data."""
    return any(isinstance(rule, AdaptClassesRule) and rule.to is None for rule in rules_written(weights, remap))


def rules_written(weights: Weights, remap: Remap) -> list[Rule]:
    """The rules of the weights and the recipe's, as far as they do not depend on the file."""
    return [rule for item in items(weights.remap, remap) if item != AUTO for rule in rules_of(item)]


def look_at_load(recipe: Recipe, verdict: Verdict, step: Load, target: Target) -> None:
    """Look up the weights of a `load` step and plan their load into what the model then is, for the verdict."""
    path = step.place.path
    try:
        weights = step.found.look_up(recipe.architecture.name)
        check_architecture(weights, recipe.architecture.name, step.remap)
    except ZooError as error:
        verdict.errors += placed(recipe, (*path, "weights"), error)
        return
    if needs_classes(weights, step.remap) and not target.classes and recipe.data is not None:
        verdict.loads[step.place.index] = FoundWeights(step.found.name, weights)
        return  # the data is not here yet; it is planned when it is
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
    hints: list[Problem] = []
    try:
        with open_source(found.location) as source:
            remap = items(found.remap, options.remap)
            planned = plan_source(source, remap, target)
            as_is = planned.plan  # from which a network of the file's own sizes is found
            if path == ("model",) and verdict.assembly is not None:
                fit = InputFit(verdict.assembly.model, verdict.assembly.preprocessing, found.preprocessing)
                planned = fitted(planned, source, target, fit)
                verdict.fitted += [f"weights: {text}" for text in planned.adapted]
            report = LoadReport(found.location, source.kind, planned.plan, planned.rules, planned.notes)
            try:
                check_report(report, options.min_coverage, strict_shapes=strict_shapes)
            except ZooError:
                hints = _go_on(recipe, path, found) or _build_with(recipe, verdict, path, source, remap, as_is)
                raise
    except ZooError as error:
        verdict.errors += [*placed(recipe, (*path, "weights"), error), *hints]
        return None
    _note_partial(recipe, verdict, path, planned.plan)
    for rule, part in planned.plan.unused:
        said = f"the rule {rule.as_mapping()} finds nothing to do{f': {part}' if part else ''}"
        verdict.warnings.append(Problem(said, recipe.document.value((*path, "remap")), "remove it"))
    return planned


def _go_on(recipe: Recipe, path: Path, found: Weights) -> list[Problem]:
    """How to take a checkpoint that was changed since it was built: as it is, with its own head."""
    if path != ("model",) or recipe.weights is None or not recipe.weights.is_file or not found.classes:
        return []
    said = f"hint: it is a zoo checkpoint with a head for {len(found.classes)} classes, which goes on as it is"
    place = recipe.document.value((*path, "weights"))
    return [Problem(said, place, f"write model: {{checkpoint: {recipe.weights.name}}}")]


def _build_with(
    recipe: Recipe, verdict: Verdict, path: Path, source: Source, remap: Remap, plan: Plan
) -> list[Problem]:
    """With which arguments the architecture fits the file, where trying some finds it."""
    if path != ("model",) or is_given(recipe.architecture.name):
        return []
    found = fitting_arguments(recipe.architecture.name, verdict.arguments, source, remap, plan)
    if found is None:
        return []
    said = f"hint: built otherwise, {recipe.architecture.name} is the network of this file"
    written = ", ".join(f"{key}: {shown(value)}" for key, value in {**recipe.model.arguments, **found}.items())
    return [Problem(said, recipe.document.value((*path, "weights")), f"write arguments: {{{written}}}")]


def _note_partial(recipe: Recipe, verdict: Verdict, path: Path, plan: Plan) -> None:
    """Warn of all that a floor below 1 lets pass, each by name."""
    place = recipe.document.value((*path, "min_coverage"))
    target = plan.target
    missing = [name for name in plan.missing_parameters if target is None or not target.ignores(name)]
    if missing:
        said = f"{', '.join(grouped(missing))} of the model: nothing in the file fills it, so it stays as it was made"
        verdict.warnings.append(Problem(said, place))
    if left := [name for name, value in plan.leftovers.items() if value.dtype in FLOATING]:
        said = f"{', '.join(grouped(left))} of the file: the model has no place for it"
        verdict.warnings.append(Problem(said, place))


def replacing(recipe: Recipe) -> list[Surgery]:
    """The surgeries that put another head, or another module at a path, in place before the model is used."""
    found = []
    for step in recipe.steps:
        if step.needs_data or isinstance(step, Save):
            break
        if not isinstance(step, Surgery):
            continue
        if step.component.endswith(("/replace_module", "/remove_module")) or _makes_head(step.component):
            found.append(step)
    return found


def _makes_head(component: str) -> bool:
    """Whether a surgery, zoo's or a plugin's, puts in a head: it is given the number of classes."""
    return "num_classes" in parameters_of(registry.load(component, "surgeries"), "surgeries")


def replaced_heads(recipe: Recipe, model: nn.Module) -> list[str]:
    """The paths of the modules that a step puts others in the place of: weights need not fill them, unless it reuses
    rows of the old head."""
    paths: list[str] = []
    for step in replacing(recipe):
        if step.arguments.get("reuse"):
            continue
        if written := step.arguments.get("path") or step.arguments.get("heads"):
            paths += [written] if isinstance(written, str) else list(written)
        elif _makes_head(step.component):
            paths += heads_if_any(model)
    return list(dict.fromkeys(path for path in paths if isinstance(path, str)))
