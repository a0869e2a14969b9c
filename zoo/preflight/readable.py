"""Samples that cannot be read, found before anything starts: among some of each part, or among all of them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from zoo.data.open_data import MOST_WORKERS, OpenData
from zoo.data.samples import Samples
from zoo.data.split import SHOWN
from zoo.errors import Problem, ZooError, first_problems

SPREAD = 16  # samples of each part that are read, evenly spread
SECONDS = 2.0  # after which no more of them are
SEARCH = 10.0  # seconds that the search for others may take once one was found
TOGETHER = 16  # samples between two looks at the clock

Place = tuple[Samples, int]


def unreadable(opened: OpenData, *, every: bool = False) -> list[Problem]:
    """What is wrong with single samples: of 16 of each part, as far as two seconds reach, or of `every` one.

    Where some of the 16 are wrong all are looked at, for ten seconds; a last problem says so where that was too short.
    Where all of them are wrong it is no matter of single samples, and the first one's problem stands for all.
    """
    parts = list(opened.parts.values())
    whole = [(part, position) for part in parts for position in range(len(part))]
    if every:
        return first_problems(_look(whole)[0], SHOWN)
    found, read = _look([(part, position) for part in parts for position in _spread(len(part))], SECONDS)
    if not found:
        return []
    if len(found) >= read > 1:
        return [replace(found[0], message=f"all {read} samples that were read are wrong: {found[0].message}")]
    more, looked = _look(whole, SEARCH)
    if looked == len(whole):
        return first_problems(more, SHOWN)
    seen = {str(problem): problem for problem in (*more, *found)}
    said = f"{looked:,} of {len(whole):,} images were looked at"
    return [*first_problems(list(seen.values()), SHOWN), Problem(said, None, "look at all: zoo check RECIPE --images")]


def _spread(count: int) -> Sequence[int]:
    chosen: list[int] = np.unique(np.linspace(0, count - 1, min(SPREAD, count)).astype(int)).tolist()
    return chosen


def _look(places: Sequence[Place], seconds: float = float("inf")) -> tuple[list[Problem], int]:
    """The problems of these samples, in order, and how many of them were read in the time."""
    end, lock = time.monotonic() + seconds, threading.Lock()
    problems: list[Problem] = []
    with ThreadPoolExecutor(min(os.cpu_count() or 1, MOST_WORKERS)) as pool:
        for first in range(0, len(places), TOGETHER):
            if time.monotonic() > end:
                return problems, first
            for found in pool.map(lambda place: _problems(place, lock), places[first : first + TOGETHER]):
                problems += found
    return problems, len(places)


def _problems(place: Place, lock: threading.Lock) -> Sequence[Problem]:
    part, position = place
    try:
        with lock:  # a data set need not be thread-safe
            value, target = part.raw(position)
        part.decoded(value)
        part.target(target, position)
    except ZooError as error:
        return error.problems
    return ()
