"""The recipe that a run leaves: as it was carried out, with what it chose by itself written in.

Precision, memory layout, and whether and how a frozen backbone's features are kept are chosen by timing and by what
they do to answers; written into the recipe they are the same the next time. Files are named by their full path: those
beside the recipe that ran would be looked for beside this one.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.finetuning.run import ActiveRun
from zoo.formats.remote import is_address
from zoo.recipe.options import located
from zoo.recipe.references import WeightsReference
from zoo.steps.load import Load


def pinned(run: ActiveRun) -> dict[str, Any]:
    """The recipe of a run as plain data; running it on the same machine gives the same bits."""
    recipe, document = run.recipe, copy.deepcopy(run.recipe.resolved)
    document.update(run.asked)
    _name_files(document["model"], _file(recipe.weights), recipe.model.remap)
    if recipe.data is not None:
        _name_data(document["data"], located(recipe.data).arguments)
    for step in recipe.steps:
        written = document["steps"][step.place.index]
        options = dict(written[step.place.action] or {})
        options.update(run.pins.get(str(step.place.index), {}))
        if isinstance(step, Load):
            _name_files(options, _file(step.found), step.remap)
        written[step.place.action] = options
    return document


def _name_data(written: dict[str, Any], arguments: Mapping[str, Any]) -> None:
    """Paths among a data set's own arguments in full, wherever they stand."""
    for place in (written, written.get("arguments") or {}):
        place.update({key: arguments[key] for key in place if key in arguments})


def _file(weights: WeightsReference | None) -> str | None:
    return weights.name if weights is not None and weights.component is None else None


def _name_files(options: dict[str, Any], weights: str | None, remap: Any) -> None:
    for key, found in (("weights", weights), ("remap", remap)):
        if options.get(key) is not None:
            options[key] = _in_full(options[key], found)


def _in_full(written: Any, found: Any) -> Any:
    """What is written, where `found` is a file (or a list with files) by its full path."""
    if isinstance(written, list) and isinstance(found, list):
        return [_in_full(one, other) for one, other in zip(written, found, strict=True)]
    is_path = isinstance(written, str) and isinstance(found, str) and not is_address(found)
    if is_path and Path(found).exists():
        return os.path.abspath(found)
    return written
