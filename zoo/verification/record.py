"""Checks that read files alone: the digests that a run and a checkpoint left of everything they say."""

from __future__ import annotations

from typing import Any

from zoo.errors import listed
from zoo.formats.checkpoint_metadata import DIGITS, digests_of, own_entries
from zoo.formats.source import sha256_of
from zoo.training.sealed import SEAL, is_sealed, sealed
from zoo.verification.rows import Rows
from zoo.verification.subject import Subject

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
