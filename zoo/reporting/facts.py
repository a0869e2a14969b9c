"""Everything that a run's folder says, gathered once into one dictionary of plain values.

Card and page render it, and `zoo report RUN --json` prints it. It is read from the folder's files alone, so that a run
which ended just now and one which was copied from elsewhere are described by the same code. What is missing or cannot
be read is left out, and `notes` say so.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo.errors import InputError, ZooError
from zoo.file_name import RUN_MARK
from zoo.finetuning.report import read_report
from zoo.finetuning.status import read_status
from zoo.finetuning.tables import history, read_table
from zoo.formats.checkpoint_metadata import read_metadata
from zoo.formats.safetensors_file import read_header
from zoo.reporting.predicted import predicted
from zoo.training.folder import METRICS, MODEL, PREDICTIONS, RECIPE, REPORT, STATUS

Facts = dict[str, Any]
INDICATORS = (RUN_MARK, REPORT, STATUS, METRICS, PREDICTIONS)  # a folder with one of these is a run's


def gather(run: str | os.PathLike[str]) -> Facts:
    """The facts of the run in a folder: `{"folder", "name", "state", "why", "status", "report", "recipe",
    "checkpoint", "epochs", "predicted", "notes"}`.

    `state` is how the run ended ("done", "interrupted", "failed", "running"), `report` is report.json, `checkpoint`
    what the model's file says of itself, `epochs` are the rows of metrics.csv, and `predicted` is what the held-out
    predictions add up to (see `zoo.reporting.predicted`). Parts that are not there are None.
    Raises InputError where the folder is not there, cannot be read, or is not a run's.
    """
    folder = _folder(run)
    notes: list[str] = []
    status = _part(notes, folder / STATUS, lambda: read_status(folder))
    report = _part(notes, folder / REPORT, lambda: read_report(folder)) if (folder / REPORT).exists() else None
    checkpoint = _part(notes, folder / MODEL, lambda: _checkpoint(folder)) if (folder / MODEL).exists() else None
    facts: Facts = {
        "folder": str(folder),
        "name": (report or status or {}).get("name") or folder.resolve().name,
        **_ended(report, status),
        "status": status,
        "report": report,
        "recipe": _recipe(folder, report),
        "checkpoint": checkpoint,
        "epochs": history(report["stages"]) if report else _part(notes, folder / METRICS, lambda: _epochs(folder)),
        "predicted": _part(notes, folder / PREDICTIONS, lambda: _predicted(folder, report or {}, checkpoint)),
    }
    return facts | {"notes": notes + _missing(facts)}


def _folder(run: str | os.PathLike[str]) -> Path:
    folder = Path(run)
    if not folder.is_dir() and folder.name == REPORT:
        folder = folder.parent
    try:
        names = set(os.listdir(folder))
    except OSError as error:
        hint = "name the folder of a run"
        raise InputError(f"{folder} cannot be read: {error.strerror}", suggestion=hint) from error
    if not names & set(INDICATORS):
        inner = sorted(name for name in names if (folder / name / REPORT).is_file())
        hint = f"name one of its runs: {folder / inner[0]}" if inner else "name the folder that zoo finetune wrote into"
        raise InputError(f"{folder} is not the folder of a run", suggestion=hint)
    return folder


def _part(notes: list[str], file: Path, read: Callable[[], Any]) -> Any:
    """A part of the facts; None and a note where its file cannot be read."""
    try:
        return read()
    except ZooError as error:
        notes += [problem.message for problem in error.problems]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        notes.append(f"{file} cannot be read: {error}")
    return None


def _ended(report: dict[str, Any] | None, status: dict[str, Any] | None) -> dict[str, Any]:
    """How the run ended: as its status says, or, of a run without one, as its report does."""
    if status is not None:
        return {"state": status["state"], "why": status.get("why")}
    if report is None:
        return {"state": "unknown", "why": None}
    state = "failed" if report.get("failed") else "interrupted" if report.get("interrupted") else "done"
    return {"state": state, "why": report.get("failed")}


def _recipe(folder: Path, report: dict[str, Any] | None) -> dict[str, Any]:
    """The recipe's file as the run began, and as it was carried out."""
    known = (report or {}).get("recipe") or {}
    pinned = folder / RECIPE
    text = pinned.read_text(encoding="utf-8", errors="replace") if pinned.is_file() else None
    return {"path": known.get("path"), "written": known.get("written"), "pinned": text}


def _checkpoint(folder: Path) -> dict[str, Any]:
    header = read_header(folder / MODEL)
    said = read_metadata(header.metadata, folder / MODEL).model_dump(exclude={"tensor_digests"})
    tensors = {name: {"shape": list(entry.shape), "dtype": entry.dtype} for name, entry in header.entries.items()}
    return said | {"bytes": (folder / MODEL).stat().st_size, "tensors": tensors}


def _epochs(folder: Path) -> list[dict[str, Any]]:
    """The rows of metrics.csv, as numbers: what a run without a report has left."""
    if not (folder / METRICS).exists():
        return []
    return [{name: float(text) if text else None for name, text in row.items()} for row in read_table(folder / METRICS)]


def _predicted(folder: Path, report: dict[str, Any], checkpoint: dict[str, Any] | None) -> dict[str, Any] | None:
    evaluation = report.get("evaluation")
    if not evaluation or not (folder / PREDICTIONS).exists():
        return None
    task = (report.get("data") or {}).get("task", "classification")
    classes = (checkpoint or {}).get("classes") or []
    thresholds = (checkpoint or {}).get("thresholds") or {}
    return predicted(folder / PREDICTIONS, task, classes, evaluation["part"], thresholds)


def _missing(facts: Facts) -> list[str]:
    """What a reader would look for and not find, with the reason."""
    notes = []
    if facts["state"] == "running":
        beat = (facts["status"] or {}).get("heartbeat")
        notes.append(f"the run is not over, or was killed: it last said something at {beat}")
    elif facts["state"] != "done":
        notes.append(f"the run {_END[facts['state']]}: {facts['why'] or 'it does not say why'}")
    if facts["report"] is None:
        notes.append("there is no report.json: nothing was kept of the model, and only what was logged is shown")
    elif facts["checkpoint"] is None:
        notes.append(f"there is no {MODEL} that can be read: what it says is left out")
    if (facts["report"] or {}).get("evaluation") and not Path(facts["folder"], PREDICTIONS).exists():
        notes.append(f"there is no {PREDICTIONS}: mistakes, classes and calibration are left out")
    return notes


_END = {"interrupted": "was interrupted", "failed": "failed", "unknown": "does not say how it ended"}
