"""Reads the report of a run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from zoo.errors import InputError

Report = dict[str, Any]


def read_report(run: str | os.PathLike[str]) -> Report:
    """The report of the run in a folder (or the `report.json` itself). Raises InputError where there is none."""
    path = Path(run)
    if path.is_dir():
        path = path / "report.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist", suggestion="name the folder of a finished run") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a report: {error}") from error
    if not isinstance(report, dict) or "stages" not in report:
        raise InputError(f"{path} is not the report of a run")
    return report
