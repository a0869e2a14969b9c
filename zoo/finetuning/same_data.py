"""Whether a resumed run, or one that is run again, finds the data that it began with; and if not, what is different."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.data.fingerprint import Differences, Fingerprint, Row, compare, read_lines
from zoo.errors import InputError, Problem, listed
from zoo.finetuning.run import ActiveRun
from zoo.recipe.validate import shown

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
