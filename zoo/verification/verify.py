"""Check what a run or a checkpoint says of itself again from the files: `zoo.verify`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from zoo.errors import InputError, ZooError, listed
from zoo.formats.checkpoint_metadata import DIGITS, KEY, digests_of, own_entries
from zoo.formats.safetensors_file import read_header
from zoo.formats.source import sha256_of
from zoo.training.devices import process_kept
from zoo.training.folder import SEAL, checkpoint_in, is_sealed, sealed
from zoo.verification.lineage import check_base, check_frozen
from zoo.verification.measurements import check_again, check_metrics
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


LABELS = {
    "tensors": "tensor names and shapes",
    "values": "digests of the tensors",
    "frozen": "list of frozen parameters",
    "base weights": "what is said of the base weights",
    "data": "what is said of the data",
    "measurements": "what is said of the metrics",
    "versions": "what is said of versions",
}


def check_report(subject: Subject, rows: Rows) -> None:
    """The report is what the run wrote, and so are the files that it names."""
    if subject.broken:
        rows.fail("report.json", subject.broken)
    elif subject.report is None:
        rows.skip("report.json", "no run's report that speaks of this file lies beside it")
    else:
        report = subject.report
        if is_sealed(report):
            rows.confirm("report.json", "its seal is the digest of what it says")
        else:
            found = _short(sealed(report)[SEAL])
            rows.fail("report.json", "it was edited: its seal is not that of what it says", _short(report[SEAL]), found)
        _check_files(subject, report, rows)


def _check_files(subject: Subject, report: dict[str, Any], rows: Rows) -> None:
    if subject.saved is not None:
        digests = {subject.path.name: subject.saved["sha256"]}
    else:
        saves = [stage for stage in subject.stages if stage["action"] == "save"]
        named = {stage["path"].replace("\\", "/").rpartition("/")[2]: stage["sha256"] for stage in saves}
        digests = report["files"] | named
    for name, expected in digests.items():
        path = subject.folder / name
        if not path.is_file():
            rows.skip(name, "it is not there any more")
            continue
        found = sha256_of(path)
        rows.equal(
            name, _short(expected), _short(found), "the bytes that the run wrote", "other bytes than the run wrote"
        )


def check_parts(subject: Subject, rows: Rows) -> None:
    """Every part of what the checkpoint says is what its digests, and the report's, say."""
    own, noted = subject.metadata.digests, (subject.finished or {}).get("digests") or {}
    if not own and not noted:
        rows.skip("digests", "the file has none: zoo did not write it")
        return
    found = digests_of(subject.metadata.model_dump(), own_entries(subject.source))
    for part, digest in found.items():
        label = LABELS.get(part, part)
        by = {"the file's own digest": own, "the digest in report.json": noted} if noted else {"its digest": own}
        wrong = [name for name, digests in by.items() if digests.get(part) != digest]
        if wrong:
            expected = next(iter(digests.get(part) or "none" for name, digests in by.items() if name in wrong))
            rows.fail(label, f"edited: not what {' and '.join(wrong)} is of", _short(expected), _short(digest))
        else:
            rows.confirm(label, f"as {' and '.join(by)} say{'s' if len(by) == 1 else ''}")


def check_values(subject: Subject, rows: Rows) -> None:
    """Every tensor has the bytes that it was written with."""
    recorded = subject.metadata.tensor_digests
    if not recorded:
        rows.skip("tensors", "the file has no digests of its values (zoo convert leaves none where it changes them)")
        return
    names = [entry.name for entry in own_entries(subject.source)]
    changed = [name for name in names if recorded.get(name) != subject.hashes[name][:DIGITS]]
    if changed:
        first = changed[0]
        text = f"{len(changed)} of {len(names)} tensors have other values than were written: {listed(changed)}"
        rows.fail("tensors", text, recorded.get(first), subject.hashes[first][:DIGITS])
    else:
        rows.confirm("tensors", f"{len(names)} tensors have the values that were written")


def _short(digest: Any) -> str:
    """Enough of a digest to compare by eye."""
    return str(digest)[:DIGITS]
