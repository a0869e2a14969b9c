"""What a run leaves: checkpoint, recipe and report, measured; of one that ended early what is good of it."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from zoo.checkpoint.save import save_checkpoint, verify_reload
from zoo.errors import Problem, TerminatedError, ZooError
from zoo.finetuning.measuring import measure_checkpoint
from zoo.finetuning.resuming import is_own_copy
from zoo.finetuning.run import ActiveRun
from zoo.finetuning.tables import write_metrics_table
from zoo.formats.checkpoint_metadata import read_metadata
from zoo.formats.files import atomic_file, write_all
from zoo.formats.safetensors_file import read_header
from zoo.formats.source import sha256_of
from zoo.model.assembly import Assembly
from zoo.steps.load import Load
from zoo.training.folder import CONFUSION, METRICS, MODEL, PREDICTIONS, RECIPE, REPORT, sealed
from zoo.training.state import write_json
from zoo.training.trainer import NotFiniteError


def keep(run: ActiveRun, error: BaseException) -> None:
    """Makes a checkpoint of what is good of a run that ended early, and says so; `error` is what ended it."""
    interrupted = isinstance(error, KeyboardInterrupt)
    try:
        hurried = isinstance(error, TerminatedError)  # whoever sent the signal may not wait until all is measured
        conclude(run, interrupted=interrupted, failed=None if interrupted else str(error), measured=not hurried)
    except (ZooError, OSError) as another:
        run.listener.note(f"warning: the last complete epoch could not be written as a checkpoint: {another}")
        return
    ended = "interrupted" if interrupted else "failed"
    how = "with other values --resume" if isinstance(error, NotFiniteError) else "--resume"
    run.listener.note(f"{ended}: {run.checkpoint} is {run.kept}; {how} goes on from it")


def conclude(
    run: ActiveRun, *, interrupted: bool = False, failed: str | None = None, measured: bool = True
) -> dict[str, Any]:
    """Writes checkpoint, recipe and report, and looks whether the checkpoint comes back as the same model.

    What is `measured` is the file; where that fails, checkpoint and report are left, and the error says so.
    """
    finished = not interrupted and failed is None
    save_checkpoint(run.assembly, run.checkpoint)
    own, document = run.folder / RECIPE, pinned(run)
    # a resumed run may be that of its own copy, in which only what has been planned since then is missing
    if not is_own_copy(run.recipe, run.folder) or document != run.recipe.resolved:
        with atomic_file(own) as file:
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
    ran = hashlib.sha256(own.read_bytes()).hexdigest()
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


PATHS = ("path", "root", "folder", "file", "validation", "test")  # what data sets call arguments that are paths


def pinned(run: ActiveRun) -> dict[str, Any]:
    """The recipe of a run as plain data, with what the run chose by itself; running it on the same machine gives the
    same bits.

    Precision, memory layout, and whether and how a frozen backbone's features are kept are chosen by timing and by what
    they do to answers, and numbers of the data may be measured; written into the recipe they are the same the next
    time. Files are named by their full path: those beside the recipe that ran would be looked for beside this one.
    """
    recipe, document = run.recipe, copy.deepcopy(run.recipe.resolved)
    document.update(run.asked)
    _name_file(document["model"], "weights", recipe.weights.name if recipe.weights and recipe.weights.is_file else None)
    _name_file(document["model"], "checkpoint", recipe.checkpoint.path if recipe.checkpoint else None)
    _name_file(document["model"], "remap", recipe.model.remap)
    if recipe.checkpoint is None and run.assembly.arguments != recipe.model.arguments:  # a configuration said so
        document["model"]["arguments"] = copy.deepcopy(run.assembly.arguments)
    if recipe.data is not None:
        _name_data(document["data"], recipe.data.arguments)
        document["data"].update(copy.deepcopy(run.pins.get("data", {})))
    for step in recipe.steps:
        options = document["steps"][step.place.index][step.place.action]
        if step_pins := run.pins.get(str(step.place.index)):
            options.update(step_pins)
        if isinstance(step, Load):
            _name_file(options, "weights", step.weights if step.found.is_file else None)
            _name_file(options, "remap", step.remap)
    return document


def _name_data(written: dict[str, Any], arguments: Mapping[str, Any]) -> None:
    """Paths among a data set's own arguments in full, wherever they stand.

    A text with a separator in it, or whose key is a path's, is a path where something is there.
    """
    for place in (written, written.get("arguments") or {}):
        for key in place.keys() & arguments.keys():
            value = place[key]
            if isinstance(value, str) and (key in PATHS or "/" in value or os.sep in value):
                place[key] = _in_full(value, os.path.expanduser(value))


def _name_file(options: dict[str, Any], key: str, found: Any) -> None:
    if options.get(key) is not None:
        options[key] = _in_full(options[key], found)


def _in_full(written: Any, found: Any) -> Any:
    """What is written, where `found` is a file (or a list with files) by its full path."""
    if isinstance(written, list) and isinstance(found, list):
        return [_in_full(one, other) for one, other in zip(written, found, strict=True)]
    if isinstance(written, str) and isinstance(found, str) and os.path.exists(found):
        return os.path.abspath(found)
    return written
