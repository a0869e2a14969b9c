"""`finetune`: a recipe from built model to checkpoint, one step after the other, resumable and reported."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from accelerate import PartialState
from filelock import FileLock, Timeout

from zoo.api import Context
from zoo.checkpoint.atomic import atomic_file, write_all
from zoo.data.opening import open_data
from zoo.errors import InputError, WorkError
from zoo.model.build import build
from zoo.model.pretrained import load_weights
from zoo.model.reload import verify_reload
from zoo.model.save import save_checkpoint
from zoo.recipe import Recipe, load_recipe
from zoo.recipe.steps import Precision
from zoo.training.actions import ACTIONS, STRUCTURAL, Run, coverage
from zoo.training.check import check
from zoo.training.check.weights import replaced_heads
from zoo.training.devices import choose_device, choose_precision, make_accelerator
from zoo.training.listener import Listener
from zoo.training.memory import freed_memory_kept
from zoo.training.process import process_kept
from zoo.training.progress import Display
from zoo.training.seeding import seed_everything
from zoo.training.state import StateFolder, write_json
from zoo.training.tensorboard import FOLDER, clear

LOCK = ".zoo.lock"  # in a run's folder: empty, held while a run is at work there, and left behind


@process_kept()
def finetune(
    recipe: Recipe | str | os.PathLike[str],
    *,
    overrides: Sequence[str] = (),
    output: str | os.PathLike[str] | None = None,
    resume: bool = False,
    device: str | None = None,
    precision: Precision | None = None,
    progress: Listener | None = None,
) -> dict[str, Any]:
    """Carry out a recipe and leave a checkpoint that rebuilds the model by itself.

    Args:
        recipe: a checked recipe, or the path of one; `overrides` (`KEY=VALUE`) go with a path.
        output: the run's folder, `checkpoints/NAME` by default. It gets `model.safetensors`, `report.json`,
            `recipe.yaml` (as it was carried out) and, until the run is done, `state/`. Files of an earlier run there
            are replaced.
        resume: go on from `state/` where there is one; the result is bit for bit that of a run never interrupted.
        device, precision: go before what the recipe says.
        progress: what shows it; a display on standard error by default.

    Returns:
        `{"checkpoint", "metrics", "seconds", "stages", …}`, the content of `report.json`.

    Raises:
        InputError: mistakes in the recipe (all of them), in the data, or a changed recipe on resume.
        WorkError: training or writing failed. KeyboardInterrupt passes through after the last whole epoch was kept.
    """
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(os.fspath(recipe), overrides)
    began, listener = time.monotonic(), progress or Display()
    where, wanted = choose_device(device or recipe.device), precision or recipe.precision
    choose_precision(wanted, where)
    verdict = check(recipe)
    verdict.require()
    folder = Path(output) if output is not None else Path("checkpoints") / recipe.name
    where = make_accelerator(where).device  # joins the process group where there is one
    main = PartialState().is_main_process
    listener = listener if main else Listener()
    for warning in verdict.warnings:
        listener.note(f"warning: {warning}")
    with _claimed(folder) if main else contextlib.nullcontext():
        state = StateFolder(folder / "state", recipe.resolved)
        saved = state.load() if resume else None
        if resume and saved is None:
            if (report := _finished(state, folder)) is not None:
                listener.note(f"{folder} is finished: there is nothing to resume")
                return report
            listener.note(f"there is no state in {folder} to resume from: starting at the beginning")
        if saved is None and main:
            state.clear()
            clear(folder / FOLDER)
        seed_everything(recipe.seed)
        assembly = build(recipe.model.architecture, recipe.model.arguments)
        run = Run(recipe, folder, state, listener, assembly, where, wanted, saved, began=began)
        _open(run)
        with freed_memory_kept(where):
            return _carry_out(run, main)


def _open(run: Run) -> None:
    """Fills the model with its weights, or remembers what an interrupted run knew, and opens the data."""
    recipe, assembly = run.recipe, run.assembly
    for note in assembly.notes:
        run.listener.note(note)
    if run.saved is not None:
        run.remember(run.saved.run)
    elif recipe.model.weights is not None:
        report = load_weights(
            assembly,
            recipe.model.weights,
            recipe.model.remap,
            min_coverage=recipe.model.min_coverage,
            ignore=replaced_heads(recipe, assembly.model),
        )
        run.loaded = coverage(recipe.model.weights, report)
    if recipe.data is not None:
        with PartialState().local_main_process_first():  # one process a machine downloads, the others find it there
            run.data = open_data(recipe.data, assembly.preprocessing, seed=recipe.seed)
        assembly.preprocessing = run.data.preprocessing
        assembly.data = {"options": recipe.data.model_dump(mode="json", exclude_defaults=True), "seed": recipe.seed}
        run.context = run.data.context
    else:
        run.context = Context(None, assembly.classes, assembly.preprocessing, assembly.task)


def _carry_out(run: Run, main: bool) -> dict[str, Any]:
    """Every step in order, then checkpoint and report; after an interrupt these hold the last whole epoch."""
    try:
        for step in run.recipe.steps:
            if run.saved is None or step.index >= run.saved.step or step.kind in STRUCTURAL:
                ACTIONS[step.kind](run, step)
    except KeyboardInterrupt:
        if main and run.trained:
            _conclude(run, interrupted=True)
            run.listener.note(f"interrupted: the last whole epoch is in {run.checkpoint}; --resume goes on from it")
        raise
    result = _conclude(run) if main else run.report()
    PartialState().wait_for_everyone()
    return result


def _conclude(run: Run, *, interrupted: bool = False) -> dict[str, Any]:
    """Writes checkpoint, recipe and report, and looks whether the checkpoint comes back as the same model."""
    save_checkpoint(run.assembly, run.checkpoint, metrics=run.metrics)
    with atomic_file(run.folder / "recipe.yaml") as file:
        write_all(file, yaml.safe_dump(run.recipe.resolved, sort_keys=False, allow_unicode=True).encode(), 0)
    report = run.report() | {"interrupted": interrupted}
    write_json(run.folder / "report.json", report)
    if not interrupted:
        run.state.finish()
        verify_reload(run.assembly, run.checkpoint, run.example())
    return report


def _finished(state: StateFolder, folder: Path) -> dict[str, Any] | None:
    """The report of a run that has ended, or None."""
    if not state.finished():
        return None
    try:
        report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorkError(f"{folder} is finished, but its report.json cannot be read: {error}") from error
    return report


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Makes the run's folder and keeps a second run out of it while this one lasts (or until it is killed).

    The lock's file stays: taking it away would let two runs hold locks on two files of one name.
    """
    elsewhere = "name another folder with --output"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "it is read-only")
        lock = FileLock(folder / LOCK, blocking=False)
        lock.acquire()
    except Timeout as error:
        raise InputError(f"another run is at work in {folder}", suggestion=f"wait for it, or {elsewhere}") from error
    except OSError as error:
        raise InputError(f"cannot write into {folder}: {error.strerror}", suggestion=elsewhere) from error
    try:
        yield
    finally:
        lock.release()
