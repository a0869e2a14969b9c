"""`finetune`: a recipe from built model to checkpoint, one step after the other, resumable and reported."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from zoo.errors import WorkError, ZooError, is_out_of_memory
from zoo.file_name import FIRST_BATCH
from zoo.finetuning.ending import conclude, keep
from zoo.finetuning.first_batch import write_first_batch
from zoo.finetuning.latest import point_latest
from zoo.finetuning.opening import begin, open_run
from zoo.finetuning.result import Run
from zoo.finetuning.resuming import check_failed, chosen_folder, claimed, is_own_copy, nothing_to_resume, resumed
from zoo.finetuning.run import ActiveRun
from zoo.finetuning.status import Status, watched
from zoo.finetuning.trial import Trial, Within
from zoo.formats.files import FullDiskError
from zoo.preflight import check
from zoo.recipe import Recipe, load_recipe
from zoo.recipe.options import Precision
from zoo.recipe.step import Step, explained
from zoo.reporting.write import complete_pages, pages_written
from zoo.steps.train import Train
from zoo.steps.train_changes import keeps_features, mixing
from zoo.training.callbacks import Listener, Listeners
from zoo.training.devices import (
    choose_device,
    choose_precision,
    freed_memory_kept,
    make_accelerator,
    process_kept,
    seed_everything,
)
from zoo.training.folder import STATE, RunFolder
from zoo.training.live import display
from zoo.training.metrics import explain
from zoo.training.processes import processes_watched
from zoo.training.signals import terminable
from zoo.training.state import StateFolder


@process_kept()
def finetune(
    recipe: Recipe | str | os.PathLike[str],
    *,
    overrides: Sequence[str] = (),
    output: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str | None = None,
    precision: Precision | None = None,
    progress: Listener | None = None,
    within: Within | None = None,
    trial: Trial | None = None,
) -> Run:
    """Carry out a recipe and leave a checkpoint that rebuilds the model by itself: `zoo.finetune`, without its objects.

    Args:
        recipe: a checked recipe, or the path of one; `overrides` (`KEY=VALUE`) go with a path.
        output: the run's folder, `checkpoints/NAME` by default, or `NAME-2`, `NAME-3`, … where a finished run is. It
            gets `model.safetensors`, `report.json`, `recipe.yaml` (as it was carried out), what docs/run-folder.md
            lists and, until the run is done, `state/`.
        resume: go on from `state/` where there is one. The recipe may have changed where that alters nothing that is
            done (see `zoo.training.resume`).
        within: the time that all of it may take, shared out among the train steps.
        trial: what times a run that is only tried out (`zoo.finetuning.estimate`).

    The other arguments, and what is raised, are those of `zoo.finetune`.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(os.fspath(recipe), overrides)
    began = time.monotonic()
    where, wanted = choose_device(device or recipe.device), precision or recipe.precision
    choose_precision(wanted, where)
    verdict = check(recipe)
    verdict.require()
    if trial is not None:
        trial.require(verdict)
    where = make_accelerator(where).device  # joins the process group where there is one
    main = PartialState().is_main_process
    listener = (progress or display()) if main else Listener()
    folder = Path(output) if output is not None else chosen_folder(recipe, resume, overwrite, listener)
    for warning in verdict.warnings:
        listener.note(f"warning: {warning}")
    own = claimed(folder, recipe, resume, overwrite) if main else contextlib.nullcontext()
    with processes_watched(f"{recipe.path} --output {folder}"), own as place:
        state = StateFolder(folder / STATE, recipe.resolved)
        done = state.finished() and is_own_copy(recipe, folder)  # what was chosen by itself stands in that copy
        saved = resumed(state, place, listener) if resume and not done else None
        if resume and saved is None and (report := nothing_to_resume(state, place, folder, listener)) is not None:
            if main:
                complete_pages(folder, listener.note)
            return Run(report, folder, where)
        seed_everything(recipe.seed)
        assembly = begin(recipe, verdict)
        run = ActiveRun(recipe, folder, state, listener, assembly, where, wanted, saved, began=began)
        run.within, run.trial = within, trial
        run.asked = {key: value for key, value in (("device", device), ("precision", precision)) if value is not None}
        check_failed(run)
        open_run(run, verdict)
        status = _take(run, place, newest=output is None) if place is not None else None
        with terminable(), freed_memory_kept(where), _way_back(run), pages_written(run, main), watched(status):
            return Run(_carry_out(run, main), folder, where, run.assembly)


def _take(run: ActiveRun, place: RunFolder, *, newest: bool) -> Status:
    """Take the folder for a run and begin the file of its status. With `newest`, `latest` leads to it: beside a folder
    of the user's choice nothing is put that was not asked for."""
    place.take(keep=run.saved is not None)
    if run.saved is None and run.fingerprint is not None:
        run.state.keep_samples(run.fingerprint.as_lines())
    if newest:
        point_latest(run.folder)
    status = Status(run)
    run.listener = Listeners(run.listener, status)
    return status


@contextlib.contextmanager
def _way_back(run: ActiveRun) -> Iterator[None]:
    """Where a full disk ends a run whose state is kept, says how to go on from that."""
    try:
        yield
    except FullDiskError as error:
        if not run.state.exists():
            raise
        back = f"zoo finetune {run.recipe.path} --output {run.folder} --resume"
        hint = f"make room, and go on from the state that is kept: {back}"
        raise WorkError(error.problems[0].message, suggestion=hint) from error


def _carry_out(run: ActiveRun, main: bool) -> dict[str, Any]:
    """Every step in order, then checkpoint and report; those of the last complete epoch where the run ends early."""
    if main and run.saved is None:
        run.climb(0, "build")
    if main:
        _draw_first_batch(run)
    for step in run.recipe.steps:
        if run.saved is not None and step.place.index < run.saved.step and not step.replayed:
            continue
        try:
            with explained(step), _memory_told(step):
                step.run(run)
                if main and run.saved is None and not isinstance(step, Train):
                    run.climb(step.place.index + 1, step.place.name)
        except (KeyboardInterrupt, Exception) as error:
            if main and run.trained and step.fails_safely:
                keep(run, error)
            raise
    if run.trial:
        run.trial.ended = time.monotonic()
    reports = [conclude(run) if main else {}]
    if PartialState().num_processes > 1:
        broadcast_object_list(reports)
    return reports[0]


def _draw_first_batch(run: ActiveRun) -> None:
    """The picture of what the first train step is given, unless an earlier part of the run has drawn it."""
    trains = [step for step in run.recipe.steps if isinstance(step, Train)]
    if run.data is None or not trains or (run.folder / FIRST_BATCH).exists():
        return
    if (channels := run.data.preprocessing.channels) > 3 and run.data.parts["train"].preprocessing is not None:
        run.listener.note(f"{FIRST_BATCH} shows the first three of {channels} channels")
    step = trains[0]
    try:
        mixed = mixing(step, run.data, of_features=keeps_features(step))
        own: dict[str, Any] = {"batch_size": step.samples, "seed": step.seed, "sampler": step.sampler}
        write_first_batch(run.folder, run.data, mixing=mixed, **own)
    except Exception as error:  # what is wrong is said in full by the step that needs these images
        run.listener.note(f"warning: {FIRST_BATCH} was not drawn: {str(error).partition(chr(10))[0]}")


@contextlib.contextmanager
def _memory_told(step: Step) -> Iterator[None]:
    """Memory that runs out anywhere in a step, such as while a batch is moved, is reported with what to type."""
    try:
        yield
    except ZooError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise explain(error, step.place.name) from error
        raise
