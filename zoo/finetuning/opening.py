"""What a run begins with: the model, its weights, and the data, as the check in front of it has found them."""

from __future__ import annotations

import os
from dataclasses import replace

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from zoo.checkpoint.data_folder import FOLDER
from zoo.checkpoint.load import load
from zoo.contracts import Context
from zoo.data import transforms
from zoo.data.copies import copies
from zoo.data.fingerprint import fingerprint
from zoo.data.measure import measure, prepare_by, to_measure
from zoo.data.open_data import OpenData
from zoo.finetuning.environment import differences
from zoo.finetuning.resuming import check_same_data
from zoo.finetuning.run import ActiveRun
from zoo.model.assembly import Assembly
from zoo.model.build import build
from zoo.model.pretrained import load_weights
from zoo.preflight import Verdict
from zoo.preflight.data import in_order_of, open_recipe_data
from zoo.preflight.verdict import FoundWeights, Known
from zoo.preflight.weights import needs_classes
from zoo.recipe import Recipe
from zoo.steps.load import coverage


def begin(recipe: Recipe, verdict: Verdict) -> Assembly:
    """The model as it is before its weights: fresh, or as a checkpoint left it, with nothing frozen."""
    if recipe.checkpoint is None:
        assembly = build(recipe.architecture, verdict.arguments)
    else:
        assembly = load(recipe.checkpoint.path, arguments=verdict.built_for)
        assembly.model.train()
        assembly.frozen = None
    assembly.used = tuple(component.distribution for component in recipe.components)
    return assembly


def open_run(run: ActiveRun, verdict: Verdict) -> None:
    """Fills the model with its weights, or remembers what an interrupted run knew, and takes the data.

    Weights and data are those that the check before the run has found, planned and opened.
    """
    recipe, assembly, run.loads = run.recipe, run.assembly, verdict.loads
    for note in (*verdict.fitted, *assembly.notes, *(verdict.data.notes if verdict.data else ())):
        run.listener.note(note)
    if run.saved is not None:
        run.remember(run.saved.run)
        if changed := differences(run.saved.run["environment"], run.environment()):
            said = f"{'; '.join(changed)}: the rest of the run has other last digits"
            run.listener.note(f"warning: not as when this run began: {said}")
        assembly.classes = verdict.known.classes
    elif recipe.checkpoint is not None:
        run.loaded = {"weights": recipe.checkpoint.path, "coverage": 1.0, "missing": []}
    elif (found := verdict.weights) is not None:
        report = load_weights(
            assembly,
            found.weights,
            recipe.model.remap,
            min_coverage=recipe.model.min_coverage,
            ignore=found.ignored,
            name=found.name,
            arguments=found.arguments,
            classes=_classes(recipe, verdict, found),
            planned=found.planned,
        )
        run.loaded = coverage(found.name, report)
        for note in (f"weights: {text}" for text in report.adapted):
            if note not in verdict.fitted:  # of weights that were not here when they were planned
                run.listener.note(note)
    if recipe.data is not None:
        known = replace(verdict.known, preprocessing=assembly.preprocessing, classes=assembly.classes)
        run.data = _data(recipe, known, verdict.data)
        run.data = run.trial.cut(run.data) if run.trial else run.data
        _measure(run)
        run.fingerprint = fingerprint(run.data)
        for note in copies(run.fingerprint.rows, run.fingerprint.read):
            run.listener.note(note)
        if run.saved is not None:
            check_same_data(run, run.saved.run.get("data"))
        assembly.preprocessing = run.data.preprocessing
        options = recipe.data.model_dump(mode="json", exclude_defaults=True) | run.pins.get("data", {})
        assembly.data = {"options": options, "seed": recipe.seed, FOLDER: os.getcwd()}
        run.context = run.data.context
    else:
        run.context = Context(None, assembly.classes, assembly.preprocessing, assembly.task)


def _measure(run: ActiveRun) -> None:
    """Measure what the data section says to, once for all processes; a resumed run has the numbers of its beginning."""
    assert run.data is not None
    names = to_measure(run.data)
    if not names or run.saved is not None:
        return
    measured = [measure(run.data, names) if PartialState().is_main_process else None]
    if PartialState().num_processes > 1:
        broadcast_object_list(measured)
    assert measured[0] is not None
    prepare_by(run.data, measured[0].values)
    run.pins["data"] = measured[0].values
    run.listener.note(f"data: {measured[0]}")


def _classes(recipe: Recipe, verdict: Verdict, found: FoundWeights) -> tuple[str, ...]:
    """The classes of the data, where a rule may pick rows of a classifier by them."""
    if verdict.data is None and recipe.data is not None and needs_classes(found.weights, recipe.model.remap):
        return _data(recipe, verdict.known, None).classes
    return verdict.data.classes if verdict.data is not None else ()


def _data(recipe: Recipe, known: Known, opened: OpenData | None) -> OpenData:
    """The data as the check has opened it; opened here where it has to be fetched first, or is to be read otherwise."""
    assert recipe.data is not None
    with PartialState().local_main_process_first():  # one process a machine downloads, the others find it there
        resolved = transforms.resolve(known.preprocessing, recipe.data)
        if opened is not None and recipe.data.range == "auto":  # the images have decided
            resolved = replace(resolved, range=opened.preprocessing.range)
        if opened is not None and opened.preprocessing == resolved:
            return in_order_of(known, opened)
        return open_recipe_data(recipe, known)
