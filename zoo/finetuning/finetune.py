"""`finetune`: a recipe from built model to checkpoint, one step after the other, resumable and reported."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import yaml
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from zoo.checkpoint.data_folder import FOLDER
from zoo.checkpoint.load import load
from zoo.checkpoint.save import save_checkpoint, verify_reload
from zoo.contracts import Context
from zoo.data import transforms
from zoo.data.fingerprint import fingerprint
from zoo.data.measure import measure, prepare_by, to_measure
from zoo.data.open_data import OpenData
from zoo.errors import InputError, Problem, TerminatedError, WorkError, ZooError, is_out_of_memory
from zoo.file_name import FIRST_BATCH, RUN_LOCK
from zoo.finetuning.environment import differences
from zoo.finetuning.first_batch import write_first_batch
from zoo.finetuning.latest import point_latest
from zoo.finetuning.measuring import measure_checkpoint
from zoo.finetuning.pinned import pinned
from zoo.finetuning.result import Run
from zoo.finetuning.run import ActiveRun
from zoo.finetuning.same_data import check_same_data
from zoo.finetuning.status import Status, watched
from zoo.finetuning.tables import write_metrics_table
from zoo.finetuning.trial import Trial, Within
from zoo.formats.checkpoint_metadata import read_metadata
from zoo.formats.files import FullDiskError, atomic_file, write_all
from zoo.formats.safetensors_file import read_header
from zoo.formats.source import sha256_of
from zoo.model.assembly import Assembly
from zoo.model.build import build
from zoo.model.pretrained import load_weights
from zoo.preflight import Verdict, check
from zoo.preflight.data import in_order_of, open_recipe_data
from zoo.preflight.verdict import FoundWeights, Known
from zoo.preflight.weights import needs_classes
from zoo.recipe import Recipe, load_recipe
from zoo.recipe.options import Precision
from zoo.recipe.step import Step, explained
from zoo.reporting.write import pages_written
from zoo.steps.load import coverage
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
from zoo.training.folder import (
    CONFUSION,
    METRICS,
    MODEL,
    PREDICTIONS,
    RECIPE,
    REPORT,
    STATE,
    RunFolder,
    default_folder,
)
from zoo.training.holder import held
from zoo.training.live import display
from zoo.training.metrics import explain
from zoo.training.processes import processes_watched
from zoo.training.sealed import sealed
from zoo.training.signals import terminable
from zoo.training.state import Saved, StateFolder, write_json
from zoo.training.trainer import NotFiniteError


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
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(os.fspath(recipe), overrides)
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
    folder = Path(output) if output is not None else _folder(recipe, resume, overwrite, listener)
    for warning in verdict.warnings:
        listener.note(f"warning: {warning}")
    own = _claimed(folder, recipe, resume, overwrite) if main else contextlib.nullcontext()
    with processes_watched(f"{recipe.path} --output {folder}"), own as place:
        state = StateFolder(folder / STATE, recipe.resolved)
        done = state.finished() and _is_own_copy(recipe, folder)  # what was chosen by itself stands in that copy
        saved = _resumed(state, place, listener) if resume and not done else None
        if resume and saved is None and (report := _nothing_to_resume(state, place, folder, listener)) is not None:
            return Run(report, folder, where)
        seed_everything(recipe.seed)
        assembly = _begin(recipe, verdict)
        assembly.used = tuple(component.distribution for component in recipe.components)
        run = ActiveRun(recipe, folder, state, listener, assembly, where, wanted, saved, began=began)
        run.within, run.trial = within, trial
        run.asked = {key: value for key, value in (("device", device), ("precision", precision)) if value is not None}
        _check_failed(run)
        _open(run, verdict)
        status = None
        if place is not None:
            place.take(keep=saved is not None)
            if saved is None and run.fingerprint is not None:
                state.keep_samples(run.fingerprint.as_lines())
            if output is None:  # beside a folder of the user's choice nothing is put that was not asked for
                point_latest(folder)
            status = Status(run)
            run.listener = Listeners(run.listener, status)
        with terminable(), freed_memory_kept(where), _way_back(run), pages_written(run, main), watched(status):
            return Run(_carry_out(run, main), folder, where, run.assembly)


def _folder(recipe: Recipe, resume: bool, overwrite: bool, listener: Listener) -> Path:
    """The folder of a run for which none was named, the same in all processes; said where it is not the usual one."""
    usual = Path("checkpoints") / recipe.name
    chosen = [usual]
    if PartialState().is_main_process:
        chosen = [default_folder(usual, recipe, resume=resume, overwrite=overwrite)]
    if PartialState().num_processes > 1:
        broadcast_object_list(chosen)
    if chosen[0] != usual and not resume:
        listener.note(f"{usual} has a finished run: this one goes to {chosen[0]} (--overwrite replaces it)")
    return chosen[0]


def _is_own_copy(recipe: Recipe, folder: Path) -> bool:
    """Whether the recipe is the one that a run left in its folder."""
    return os.path.realpath(recipe.path) == os.path.realpath(folder / RECIPE)


def _begin(recipe: Recipe, verdict: Verdict) -> Assembly:
    """The model as it is before its weights: fresh, or as a checkpoint left it, with nothing frozen."""
    if recipe.checkpoint is None:
        return build(recipe.architecture, verdict.arguments)
    assembly = load(recipe.checkpoint.path, arguments=verdict.built_for)
    assembly.model.train()
    assembly.frozen = None
    return assembly


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


def _nothing_to_resume(
    state: StateFolder, place: RunFolder | None, folder: Path, listener: Listener
) -> dict[str, Any] | None:
    """The report of a run that is finished; else None, and a word on beginning anew."""
    if (report := _finished(state, folder)) is not None:
        if place is not None:
            place.sweep()
        listener.note(f"{folder} is finished: there is nothing to resume")
        return report
    if place is not None:
        place.check_new_beginning()
    listener.note(f"there is no state in {folder} to resume from: starting at the beginning")
    return None


def _resumed(state: StateFolder, place: RunFolder | None, listener: Listener) -> Saved | None:
    """The state to go on from, and a word on every change of the recipe that is taken."""
    if place is not None and state.changes():
        place.check_owner()
    saved = state.load()
    if saved is not None and saved.damage:
        progress = saved.training["progress"]
        reached = (
            f"step {saved.step + 1} of the recipe, epoch {progress['epoch']} ({progress['steps']} optimizer steps)"
        )
        listener.note(f"warning: {'; '.join(saved.damage)}: going on from the state before: {reached}")
    for change in saved.taken if saved is not None else ():
        listener.note(f"resumed with a change: {change}")
    return saved


def _check_failed(run: ActiveRun) -> None:
    """Raises InputError where a resumed run would only fail again."""
    failed = run.saved.failed if run.saved is not None else None
    if run.saved is None or failed is None or failed["conditions"] != run.conditions:
        return
    step = cast(Train, run.recipe.steps[run.saved.step])
    lr = run.saved.run["pins"].get(str(run.saved.step), {}).get("lr", step.lr)
    lower = f"steps[{run.saved.step}].{step.place.action}.lr={lr / 10:g}"
    raise InputError(
        f"the run in {run.folder} ended: {failed['message']}; resumed unchanged it would end the same way",
        suggestion=f"change what led there: --resume --set {lower}",
    )


def _open(run: ActiveRun, verdict: Verdict) -> None:
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
                _keep(run, error)
            raise
    if run.trial:
        run.trial.ended = time.monotonic()
    reports = [_conclude(run) if main else {}]
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


def _keep(run: ActiveRun, error: BaseException) -> None:
    """Makes a checkpoint of what is good of a run that ended early, and says so; `error` is what ended it."""
    interrupted = isinstance(error, KeyboardInterrupt)
    try:
        hurried = isinstance(error, TerminatedError)  # whoever sent the signal may not wait until all is measured
        _conclude(run, interrupted=interrupted, failed=None if interrupted else str(error), measured=not hurried)
    except (ZooError, OSError) as another:
        run.listener.note(f"warning: the last complete epoch could not be written as a checkpoint: {another}")
        return
    ended = "interrupted" if interrupted else "failed"
    how = "with other values --resume" if isinstance(error, NotFiniteError) else "--resume"
    run.listener.note(f"{ended}: {run.checkpoint} is {run.kept}; {how} goes on from it")


def _conclude(
    run: ActiveRun, *, interrupted: bool = False, failed: str | None = None, measured: bool = True
) -> dict[str, Any]:
    """Writes checkpoint, recipe and report, and looks whether the checkpoint comes back as the same model.

    What is `measured` is the file; where that fails, checkpoint and report are left, and the error says so.
    """
    finished = not interrupted and failed is None
    save_checkpoint(run.assembly, run.checkpoint)
    copy, document = run.folder / RECIPE, pinned(run)
    # a resumed run may be that of its own copy, in which only what has been planned since then is missing
    if not _is_own_copy(run.recipe, run.folder) or document != run.recipe.resolved:
        with atomic_file(copy) as file:
            write_all(file, yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode(), 0)
    loaded: Assembly | None = None
    unmeasured: ZooError | None = None
    try:
        loaded = measure_checkpoint(run, finished=finished) if measured else None
    except ZooError as error:
        unmeasured = error
    except KeyboardInterrupt:
        if not interrupted:  # who presses Ctrl-C again while an interrupted run is measured wants no numbers
            raise
    write_metrics_table(run.folder / METRICS, run.stages)
    ran = hashlib.sha256(copy.read_bytes()).hexdigest()
    ended = {"recipe_sha256": ran, "interrupted": interrupted, "failed": failed}
    report = sealed(run.report() | ended | _digests(run.folder))
    write_json(run.folder / REPORT, report)
    if unmeasured is not None:
        written = Problem(f"{run.checkpoint} is written, but could not be measured")
        said = type(unmeasured)([written, *unmeasured.problems])
        if finished:
            raise said from unmeasured
        run.listener.note(f"warning: {said}")
    elif finished:
        run.state.finish()
        verify_reload(run.assembly, run.checkpoint, run.example(), loaded=loaded)
    return report


def _digests(folder: Path) -> dict[str, Any]:
    """The sha256 of a run's files and of the parts of its checkpoint, by which `zoo verify` knows them."""
    names = (MODEL, RECIPE, PREDICTIONS, METRICS, CONFUSION)
    files = {name: sha256_of(folder / name) for name in names if (folder / name).is_file()}
    said = read_metadata(read_header(folder / MODEL).metadata, folder / MODEL)
    return {"files": files, "digests": said.digests}


def _finished(state: StateFolder, folder: Path) -> dict[str, Any] | None:
    """The report of a run that has ended, or None."""
    if not state.finished():
        return None
    try:
        report: dict[str, Any] = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorkError(f"{folder} is finished, but its report.json cannot be read: {error}") from error
    return report


@contextlib.contextmanager
def _claimed(folder: Path, recipe: Recipe, resume: bool, overwrite: bool) -> Iterator[RunFolder]:
    """The run's folder, made and looked at; a second run is kept out while this one lasts (or until it is killed)."""
    if not (
        folder / RUN_LOCK
    ).exists():  # no run is at work there, and a refused one leaves nothing behind, no lock either
        RunFolder(folder, recipe).check(resume=resume, overwrite=overwrite)
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "it is read-only")
            stack.enter_context(held(folder))
        except OSError as error:
            message = f"cannot write into {folder}: {error.strerror}"
            raise InputError(message, suggestion="name another folder with --output") from error
        place = RunFolder(folder, recipe)
        place.check(resume=resume, overwrite=overwrite)
        yield place
