"""What a run took its data for, in one line: task, classes with their counts, and how they were split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo.data.samples import Samples
from zoo.data.split import listed_targets

MOST_NAMED = 12  # classes that are listed with their counts; of more, only the ends are


def describe(task: str, classes: Sequence[str], outputs: int, parts: Mapping[Any, Samples], held_out: str) -> str:
    """For example `classification, 2 classes: cat 6+2, dog 6+2 (train + validation); validation is held out at random`.

    Counts are left out where reading every sample of the data set would be the only way to them.
    """
    sizes = " + ".join(f"{len(samples)} {part}" for part, samples in parts.items())
    targets = {part: _targets(samples) for part, samples in parts.items()}
    known = {part: values for part, values in targets.items() if values is not None}
    if task == "regression":
        said = f"regression of {outputs} {'value' if outputs == 1 else 'values'}{_listed(classes, [])}{_ranges(known)}"
    else:
        counted = [_counts(task, values, len(classes)) for values in known.values()] if len(known) == len(parts) else []
        soft = (
            ", a probability of each" if task == "classification" and any(v.ndim == 2 for v in known.values()) else ""
        )
        said = f"{task}, {len(classes)} classes{soft}{_listed(classes, counted)}{_of_none(task, known)}"
    return f"{said}; {sizes}{f'; {held_out}' if held_out else ''}"


def _targets(samples: Samples) -> np.ndarray[Any, Any] | None:
    """The part's targets as numbers; None where the data set lists none, or they are not what its task says."""
    listed = listed_targets(samples.dataset)
    try:
        targets = None if listed is None else np.asarray(listed)[samples.indices]
    except (TypeError, ValueError):  # lists of several lengths
        return None
    return targets if targets is not None and targets.dtype.kind in "biuf" else None


def _counts(task: str, targets: np.ndarray[Any, Any], classes: int) -> list[int]:
    if targets.ndim == 2:
        return [int(count) for count in (targets.sum(0) if task == "multilabel" else targets.sum(0).round())]
    known = targets[(targets >= 0) & (targets < classes)].astype(np.int64)
    return [int(count) for count in np.bincount(known, minlength=classes)]


def _listed(classes: Sequence[str], counted: Sequence[Sequence[int]]) -> str:
    """`: cat 6+2, dog 6+2`, the counts of each part; of many classes the first and last."""
    names = [
        " ".join([repr(name) if not name.isprintable() else name, *(["+".join(map(str, counts))] if counts else [])])
        for name, *counts in zip(classes, *counted, strict=True)
    ]
    if len(names) > MOST_NAMED:
        names = [*names[: MOST_NAMED - 2], "…", names[-1]]
    return f": {', '.join(names)}" if names else ""


def _of_none(task: str, known: Mapping[Any, np.ndarray[Any, Any]]) -> str:
    """`; 3+1 samples show none of them`, of a multilabel set's parts."""
    if task != "multilabel" or any(values.ndim != 2 for values in known.values()):
        return ""
    bare = [int((values == 0).all(1).sum()) for values in known.values()]
    return f"; {'+'.join(map(str, bare))} samples show none of them" if any(bare) else ""


def _ranges(known: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """`, 0.1 to 5.6`: the least and greatest target of the training part."""
    values = known.get("train")
    return "" if values is None or not values.size else f", {values.min():g} to {values.max():g}"
