"""The recipe that a run leaves: as it was carried out, with what it chose by itself written in.

Precision, memory layout, and whether and how a frozen backbone's features are kept are chosen by timing and by what
they do to answers, and numbers of the data may be measured; written into the recipe they are the same the next time.
Files are named by their full path: those beside the recipe that ran would be looked for beside this one.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import Any

from zoo.finetuning.run import ActiveRun
from zoo.steps.load import Load

PATHS = ("path", "root", "folder", "file", "validation", "test")  # what data sets call arguments that are paths


def pinned(run: ActiveRun) -> dict[str, Any]:
    """The recipe of a run as plain data; running it on the same machine gives the same bits."""
    recipe, document = run.recipe, copy.deepcopy(run.recipe.resolved)
    document.update(run.asked)
    _name_file(document["model"], "weights", recipe.weights.name if recipe.weights and recipe.weights.is_file else None)
    _name_file(document["model"], "checkpoint", recipe.checkpoint.path if recipe.checkpoint else None)
    _name_file(document["model"], "remap", recipe.model.remap)
    if recipe.checkpoint is None and run.assembly.arguments != recipe.model.arguments:  # a configuration said so
        document["model"]["arguments"] = copy.deepcopy(run.assembly.arguments)
    if recipe.data is not None:
        _name_data(document["data"], recipe.data.arguments)
        document["data"].update(copy.deepcopy(run.pins.get("data", {})))
    for step in recipe.steps:
        options = document["steps"][step.place.index][step.place.action]
        if step_pins := run.pins.get(str(step.place.index)):
            options.update(step_pins)
        if isinstance(step, Load):
            _name_file(options, "weights", step.weights if step.found.is_file else None)
            _name_file(options, "remap", step.remap)
    return document


def _name_data(written: dict[str, Any], arguments: Mapping[str, Any]) -> None:
    """Paths among a data set's own arguments in full, wherever they stand.

    A text with a separator in it, or whose key is a path's, is a path where something is there.
    """
    for place in (written, written.get("arguments") or {}):
        for key in place.keys() & arguments.keys():
            value = place[key]
            if isinstance(value, str) and (key in PATHS or "/" in value or os.sep in value):
                place[key] = _in_full(value, os.path.expanduser(value))


def _name_file(options: dict[str, Any], key: str, found: Any) -> None:
    if options.get(key) is not None:
        options[key] = _in_full(options[key], found)


def _in_full(written: Any, found: Any) -> Any:
    """What is written, where `found` is a file (or a list with files) by its full path."""
    if isinstance(written, list) and isinstance(found, list):
        return [_in_full(one, other) for one, other in zip(written, found, strict=True)]
    if isinstance(written, str) and isinstance(found, str) and os.path.exists(found):
        return os.path.abspath(found)
    return written
