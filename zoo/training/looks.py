"""How often a test part was looked at: a number that chose nothing stays honest only while it is looked at once.

Every look on this machine is a line in a file of zoo's cache, one file a test part. What counts as the same test part:
the same data set with the same arguments, and, where zoo held it out, the same share, seed and limit.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zoo.cache import cache_folder
from zoo.data.open_data import OpenData
from zoo.training.folder import is_sealed, sealed
from zoo.training.state import write_json

FOLDER = "test-looks"


def look(data: OpenData, by: str) -> list[dict[str, str]]:
    """All looks at the test part of `data`, `{"when", "by"}` each, this one the last; `by` says who looks."""
    file = cache_folder() / FOLDER / f"{_key(data)}.jsonl"
    now = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "by": by}
    earlier: list[dict[str, str]] = []
    with suppress(OSError, ValueError, RecursionError):  # without a cache this look is the first that anybody knows of
        if file.exists():
            earlier = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "a", encoding="utf-8") as lines:
            lines.write(json.dumps(now) + "\n")
    return [*earlier, now]


def tell_report(checkpoint: str | os.PathLike[str], looks: list[dict[str, str]]) -> None:
    """Let the report beside a run's checkpoint say of later looks, where there is one that can be written."""
    path = Path(checkpoint).parent / "report.json"
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if Path(report["checkpoint"]).name != Path(checkpoint).name or "test" not in report["evaluation"]["parts"]:
            return
        unedited = is_sealed(report)
        report["evaluation"]["test_looks"] = looks
        write_json(path, sealed(report) if unedited else report)  # an edit stays one that can be seen


def said(looks: list[dict[str, str]]) -> str:
    """A line for the person where this is not the first look; empty where it is."""
    if len(looks) < 2:
        return ""
    before = f"{looks[-2]['by']}, {looks[-2]['when']}"
    return f"test: look number {len(looks)} on this machine (before: {before}); what many looks choose looks too good"


def _key(data: OpenData) -> str:
    options, test = data.options, data.parts["test"]
    arguments = {
        key: os.path.abspath(value) if isinstance(value, str) and os.path.exists(value) else value
        for key, value in options.arguments.items()
    }
    held_out = test.dataset is data.parts["train"].dataset
    seed = data.seed if options.split_seed is None else options.split_seed
    shares = [options.validation_fraction, options.test_fraction, seed] if held_out else []
    limit = [options.limit, seed] if options.limit else []
    identity = [options.source, arguments, shares, limit, len(test)]
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:16]
