"""What changed between two weight files: tensor by tensor and summed by module, in bounded memory, without torch."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from zoo.checkpoint.comparing import Difference, compare
from zoo.checkpoint.copying import Readers
from zoo.checkpoint.sources import Source, open_source
from zoo.checkpoint.tree import by_module, in_order

STATUSES = ("equal", "changed", "dtype_changed", "shape_changed", "missing", "added")
"""Of a tensor: same bits; same dtype and shape, other values; other dtype; other shape; only in A; only in B."""


def diff(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    key_a: str | None = None,
    key_b: str | None = None,
    trust_pickle: bool = False,
) -> dict[str, Any]:
    """Compare the checkpoints at `a` and `b`; names must agree (`zoo convert` brings them together).

    Returns `{"a", "b", "equal", "counts", "tensors", "modules", "metadata_changed", "ties_changed",
    "frozen_violations", "notes"}`. A tensor's row is `{"name", "status", "dtype", "shape"}` (dtype and shape as a pair
    [A, B]) and, where values were compared, `"elements", "changed", "relative", "cosine", "largest", "ulps",
    "nonfinite"` (see `comparing.Difference`). `frozen_violations` are tensors that B says were frozen and that differ.

    Raises InputError where either cannot be read.
    """
    with (
        open_source(os.fspath(a), key=key_a, trust_pickle=trust_pickle) as first,
        open_source(os.fspath(b), key=key_b, trust_pickle=trust_pickle) as second,
        Readers() as readers,
    ):
        differences = _differences(first, second, readers)
        names = dict.fromkeys([*first.entries, *second.entries])
        rows = [_row(name, first, second, differences.get(name)) for name in names]
        return {
            "a": {"file": first.location, "kind": first.kind},
            "b": {"file": second.location, "kind": second.kind},
            "equal": all(row["status"] == "equal" for row in rows),
            "counts": dict.fromkeys(STATUSES, 0) | Counter(row["status"] for row in rows),
            "tensors": rows,
            "modules": _modules(rows, differences),
            "metadata_changed": _changed_keys(first.metadata, second.metadata),
            "ties_changed": _changed_keys(first.aliases, second.aliases),
            "frozen_violations": _frozen_violations(rows, second.metadata),
            "notes": _notes(first, second),
        }


def _differences(first: Source, second: Source, readers: Readers) -> dict[str, Difference]:
    """The difference of every tensor that has the same shape in both; tied names are compared once."""
    found: dict[tuple[str, str], Difference] = {}
    differences: dict[str, Difference] = {}
    for name, entry in first.entries.items():
        if name in second.entries and second.entries[name].shape == entry.shape:
            pair = (first.aliases.get(name, name), second.aliases.get(name, name))
            if pair not in found:
                found[pair] = compare(first, pair[0], second, pair[1], readers)
            differences[name] = found[pair]
    return differences


def _row(name: str, first: Source, second: Source, difference: Difference | None) -> dict[str, Any]:
    a, b = first.entries.get(name), second.entries.get(name)
    row = {
        "name": name,
        "status": _status(name, first, second, difference),
        "dtype": [a and a.dtype, b and b.dtype],
        "shape": [a and list(a.shape), b and list(b.shape)],
    }
    return row if difference is None else row | _numbers(difference)


def _status(name: str, first: Source, second: Source, difference: Difference | None) -> str:
    if name not in second.entries:
        return "missing"
    if name not in first.entries:
        return "added"
    if difference is None:
        return "shape_changed"
    if first.entries[name].dtype != second.entries[name].dtype:
        return "dtype_changed"
    return "changed" if difference.changed else "equal"


def _numbers(difference: Difference) -> dict[str, Any]:
    return {
        "elements": difference.elements,
        "changed": difference.changed,
        "relative": difference.relative,
        "cosine": difference.cosine,
        "largest": difference.largest,
        "ulps": difference.ulps,
        "nonfinite": difference.nonfinite,
    }


def _modules(rows: list[dict[str, Any]], differences: Mapping[str, Difference]) -> list[dict[str, Any]]:
    """Counts by status and the summed difference for each module that the names tell of."""
    status = {row["name"]: row["status"] for row in rows}
    counts: dict[str, Counter[str]] = by_module(status, Counter, lambda sum_, name: sum_.update([status[name]]))

    def add(total: Difference, name: str) -> None:
        if name in differences:
            total.add(differences[name])

    sums = by_module(status, Difference, add)
    return [{"path": path, "counts": dict(counts[path]), **_numbers(sums[path])} for path in in_order(sums)]


def _changed_keys(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    return sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))


def _frozen_violations(rows: list[dict[str, Any]], metadata: Mapping[str, str]) -> list[str]:
    """Tensors at or below what B's record names as frozen, which are not equal."""
    try:
        frozen = json.loads(metadata.get("zoo", "{}")).get("frozen", [])
    except (ValueError, AttributeError, RecursionError):
        return []
    names = {name for name in frozen if isinstance(name, str)} if isinstance(frozen, list) else set()
    return [
        row["name"]
        for row in rows
        if row["status"] not in ("equal", "missing")
        and any(row["name"] == name or row["name"].startswith(f"{name}.") for name in names)
    ]


def _notes(first: Source, second: Source) -> list[str]:
    notes = [f"A: {note}" for note in first.notes] + [f"B: {note}" for note in second.notes]
    if not first.entries.keys() & second.entries.keys():
        notes.append("the two have no name in common; bring them together with `zoo convert --remap` first")
    for letter, source, other in (("A", first, second), ("B", second, first)):
        if source.wrappers and source.wrappers != other.wrappers:
            prefix = "".join(source.wrappers)
            notes.append(
                f"every name in {letter} starts with {prefix}; take it off with a rule `strip_prefix: {prefix}`"
            )
    return notes
