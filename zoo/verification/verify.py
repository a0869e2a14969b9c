"""Check what a run or a checkpoint says of itself again from the files: `zoo.verify`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from zoo.errors import InputError, ZooError
from zoo.formats.checkpoint_metadata import KEY
from zoo.formats.safetensors_file import read_header
from zoo.training.devices import process_kept
from zoo.training.folder import checkpoint_in
from zoo.verification.lineage import check_base, check_frozen
from zoo.verification.measurements import check_again, check_metrics
from zoo.verification.record import check_parts, check_report, check_values
from zoo.verification.rows import Rows
from zoo.verification.subject import Subject, open_subject, report_beside


@process_kept()
def verify(place: str | os.PathLike[str], *, quick: bool = False, device: str | None = None) -> dict[str, Any]:
    """What a run or a checkpoint says of itself, checked again from the files, a row a check.

    Args:
        place: a run's folder, or a checkpoint; the report beside a checkpoint is taken where it speaks of that file.
        quick: do not run the model again.
        device: where the model is run; where it was measured, if this machine has that, without it.

    Returns `{"checkpoint", "report", "ok", "confirmed", "failed", "not_checked", "checks"}`. A check is `{"check",
    "result", "detail", "expected", "found"}`; `result` is "confirmed", "failed" or "not checked", with the reason as
    `detail`. Nothing is downloaded, nothing is written.

    Raises InputError where there is no checkpoint that zoo wrote.
    """
    path, rows = checkpoint_in(place), Rows()
    try:
        subject = open_subject(path)
    except InputError as error:
        report, saved, _ = report_beside(path)
        if report is None and saved is None and not _is_own(path):
            raise
        rows.fail("model", str(error))
        return _document(path, report is not None, rows)
    with subject.source:
        _check_all(subject, rows, quick=quick, device=device)
    return _document(path, subject.report is not None, rows)


def _check_all(subject: Subject, rows: Rows, *, quick: bool, device: str | None) -> None:
    checks: dict[str, Callable[[], None]] = {
        "report.json": lambda: check_report(subject, rows),
        "digests": lambda: check_parts(subject, rows),
        "tensors": lambda: check_values(subject, rows),
        "frozen tensors": lambda: check_frozen(subject, rows),
        "base weights": lambda: check_base(subject, rows),
        "metrics": lambda: check_metrics(subject, rows),
        "model": lambda: check_again(subject, rows, quick=quick, device=device),
    }
    for name, check in checks.items():
        try:
            check()
        except ZooError as error:
            rows.fail(name, str(error))
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            rows.fail(name, f"report.json is not what a run writes ({type(error).__name__}: {error})")


def _is_own(path: str | os.PathLike[str]) -> bool:
    """Whether a file that cannot be read as a checkpoint says that it is one."""
    try:
        return KEY in read_header(path).metadata
    except (ZooError, OSError):
        return False


def _document(path: str | os.PathLike[str], with_report: bool, rows: Rows) -> dict[str, Any]:
    counts = rows.counts()
    return {
        "checkpoint": os.fspath(path),
        "report": with_report,
        "ok": not rows.failed,
        "confirmed": counts["confirmed"],
        "failed": counts["failed"],
        "not_checked": counts["not checked"],
        "checks": rows.as_list(),
    }
