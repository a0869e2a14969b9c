"""Where a run goes, kept for itself while it lasts, and what an earlier run left there to go on from."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from zoo.data.fingerprint import Differences, Fingerprint, Row, compare, read_lines
from zoo.errors import InputError, Problem, WorkError, listed
from zoo.file_name import RUN_LOCK
from zoo.finetuning.run import ActiveRun
from zoo.recipe import Recipe
from zoo.recipe.validate import shown
from zoo.steps.train import Train
from zoo.training.callbacks import Listener
from zoo.training.folder import RECIPE, REPORT, RunFolder, default_folder
from zoo.training.holder import held
from zoo.training.state import Saved, StateFolder


def chosen_folder(recipe: Recipe, resume: bool, overwrite: bool, listener: Listener) -> Path:
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


@contextlib.contextmanager
def claimed(folder: Path, recipe: Recipe, resume: bool, overwrite: bool) -> Iterator[RunFolder]:
    """The run's folder, made and looked at; a second run is kept out while this one lasts (or until it is killed)."""
    # where no run is at work, a refused one leaves nothing behind, no lock either
    if not (folder / RUN_LOCK).exists():
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


def is_own_copy(recipe: Recipe, folder: Path) -> bool:
    """Whether the recipe is the one that a run left in its folder."""
    return os.path.realpath(recipe.path) == os.path.realpath(folder / RECIPE)


def nothing_to_resume(
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


def _finished(state: StateFolder, folder: Path) -> dict[str, Any] | None:
    """The report of a run that has ended, or None."""
    if not state.finished():
        return None
    try:
        report: dict[str, Any] = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WorkError(f"{folder} is finished, but its report.json cannot be read: {error}") from error
    return report


def resumed(state: StateFolder, place: RunFolder | None, listener: Listener) -> Saved | None:
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


def check_failed(run: ActiveRun) -> None:
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


ADVICE = "a run is resumed on the data it began with: bring it back, or start anew with another --output"
UNNAMED = "its samples are not those that this run began with"


def check_same_data(run: ActiveRun, before: Mapping[str, Any] | None) -> None:
    """Compares the data with what the run had found `before` (as `ActiveRun.data_found` says it).

    Samples whose bytes alone have changed (a broken picture was mended) are noted, and the run goes on. Raises
    InputError, naming every difference, for anything else: classes or samples would change places.
    """
    now, known = run.data_found() or {}, before or {}
    differences = differences_since(run.state.samples(), known.get("fingerprint"), run.fingerprint)
    counts = now.keys() & {"train", "validation", "test", "outputs"} if differences else set()  # names say more
    changed = [
        f"{key} was {_listed(value)} when this run began and is {_listed(now.get(key))}"
        for key, value in known.items()
        if key != "fingerprint" and key not in counts and now.get(key) != value
    ]
    if differences is not None and differences.only_replaced and not changed:
        run.data_changes = list(differences.lines())
        said = "; ".join(run.data_changes)
        run.listener.note(f"warning: the data has changed since this run began: {said}; it goes on with what is there")
        return
    changed += [UNNAMED] if differences is None else list(differences.lines())
    if changed:
        raise InputError([*(Problem(f"data: {text}") for text in changed), Problem(ADVICE)])


def differences_since(
    text: str | None, before: Mapping[str, Any] | None, now: Fingerprint | None
) -> Differences | None:
    """What differs from the samples written down as `text`, whose fingerprint was `before`; None where that cannot be
    said, because the text is lost or is not that of the fingerprint."""
    if before is None or now is None or before["digest"] == now.digest:
        return Differences()
    try:
        rows = read_lines(text or "")
    except (ValueError, TypeError, RecursionError):
        return None
    if Fingerprint(rows, before["read"]).digest != before["digest"]:
        return None
    if before["read"] != now.read:  # other parts of the files were read
        return compare(*([_without_digest(row) for row in side] for side in (rows, now.rows)))
    return compare(rows, now.rows)


def _without_digest(row: Row) -> Row:
    return row._replace(digest="")


def _listed(value: Any) -> str:
    return listed(value, 20) if isinstance(value, list) else shown(value)
