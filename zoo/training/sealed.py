"""The seal of a run's report: a digest of all that it says, so that an edit can be seen (it is no signature)."""

from __future__ import annotations

from typing import Any

from zoo.formats.checkpoint_metadata import json_digest

SEAL = "seal"


def sealed(report: dict[str, Any]) -> dict[str, Any]:
    """The report with the sha256 of all else that it says under `seal`."""
    rest = {key: value for key, value in report.items() if key != SEAL}
    return rest | {SEAL: json_digest(rest)}


def is_sealed(report: dict[str, Any]) -> bool:
    """Whether the report says what it said when it was sealed."""
    return bool(report.get(SEAL) == sealed(report)[SEAL])
