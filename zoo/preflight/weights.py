"""The weights as a dry run sees them: found, and planned by names and shapes where they are on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path as FilePath
from typing import Any

from torch import nn

from zoo import registry
from zoo.contracts import Preprocessing, Weights
from zoo.errors import InputError, Problem, ZooError
from zoo.formats import open_source
from zoo.model.heads import find_heads
from zoo.model.load_into import LoadReport, target_of
from zoo.model.load_into import check as check_report
from zoo.model.pretrained import find_weights
from zoo.preflight.verdict import Verdict, placed
from zoo.recipe import Recipe
from zoo.recipe.document import Path
from zoo.recipe.options import ModelOptions
from zoo.remap.remaps import items, plan_source
from zoo.remap.rules import parse_rules
from zoo.steps.load import Load
from zoo.steps.surgery import Surgery


def look_at_weights(recipe: Recipe, verdict: Verdict) -> Preprocessing:
    """Find the weights of `model:` and plan their load; the preprocessing they were trained on.

    What is wrong with them goes into the verdict. Without weights it is the architecture's own preprocessing.
    """
    assembly = verdict.assembly
    own = assembly.preprocessing if assembly is not None else Preprocessing()
    if recipe.model.weights is None:
        return own
    try:
        found = find_weights(recipe.model.weights, recipe.model.architecture)
        _check_architecture(found, recipe.model.architecture)
    except ZooError as error:
        verdict.errors += placed(recipe, ("model", "weights"), error)
        return own
    if assembly is not None:
        ignored = replaced_heads(recipe, assembly.model)
        _plan(recipe, verdict, ("model",), assembly.model, found, recipe.model, ignored)
    return found.preprocessing or own


def look_at_load(recipe: Recipe, verdict: Verdict, path: Path, model: nn.Module, options: Load) -> None:
    """Plan the load of a `load` step into the model as it then is."""
    try:
        found = find_weights(options.weights, recipe.model.architecture)
    except ZooError as error:
        verdict.errors += placed(recipe, (*path, "weights"), error)
        return
    _plan(recipe, verdict, path, model, found, options, (), strict_shapes=options.strict_shapes)


def _plan(
    recipe: Recipe,
    verdict: Verdict,
    path: Path,
    model: nn.Module,
    found: Weights,
    options: ModelOptions | Load,
    ignored: Sequence[str],
    *,
    strict_shapes: bool = True,
) -> None:
    """Plan the load on names and shapes. Weights that are not on this machine, or that a library's own code converts,
    are judged when they are loaded."""
    rules = _rules(recipe, verdict, path)
    if rules is None or found.convert is not None or not FilePath(found.location).exists():
        return
    try:
        with open_source(found.location) as source:
            planned = plan_source(source, items(found.remap, rules), target_of(model, ignored=ignored))
            report = LoadReport(found.location, source.kind, planned.plan, planned.rules, planned.notes)
            check_report(report, options.min_coverage, strict_shapes=strict_shapes)
    except ZooError as error:
        verdict.errors += placed(recipe, (*path, "weights"), error)
        return
    for rule, part in planned.plan.unused:
        said = f"the rule {rule.as_mapping()} finds nothing to do{f': {part}' if part else ''}"
        verdict.warnings.append(Problem(said, recipe.document.value((*path, "remap")), "remove it"))


def _rules(recipe: Recipe, verdict: Verdict, path: Path) -> list[Any] | None:
    """The recipe's own remap with its rules read, each mistake placed at its key; None when there are mistakes."""
    written = recipe.document.get((*path, "remap"))
    rules: list[Any] = []
    mistakes = 0
    for index, item in enumerate(items(written)):
        place = (*path, "remap", index) if isinstance(written, list) else (*path, "remap")
        if isinstance(item, str) and "=" not in item and ":" not in item:
            rules.append(item)  # auto, a file or an installed remap
            continue
        try:
            rules += parse_rules(item, lambda inner, place=place: recipe.document.value((*place, *inner)))  # type: ignore[misc]
        except ZooError as error:
            mistakes += 1
            verdict.errors += placed(recipe, place, error)
    return None if mistakes else rules


def _check_architecture(found: Weights, architecture: str) -> None:
    meant = registry.resolve(found.architecture, "architectures").name
    if meant != architecture:
        message = f"these weights are for {meant}; in {architecture} they give wrong answers even where they fit"
        raise InputError(message, suggestion=f"write architecture: {meant}")


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
