"""How much memory a process and all its children hold: loader workers count, and what they share counts once."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path


class Peak:
    """The largest amount seen, in MB, looking once a second (Linux)."""

    def __init__(self, process: int) -> None:
        self.process, self.megabytes = process, 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> float:
        self._done.set()
        self._thread.join()
        return self.megabytes

    def _watch(self) -> None:
        while not self._done.wait(1.0):
            self.megabytes = max(self.megabytes, sum(map(proportional, family(self.process))))


def family(process: int) -> list[int]:
    """The process and its children, theirs too."""
    found = [process]
    with suppress(OSError):
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            found += [one for child in children.read_text().split() for one in family(int(child))]
    return found


def proportional(process: int) -> float:
    """MB of a process; a page that several share counts for each in part."""
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text("utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("Pss:")).split()[1]) / 1024
    return 0.0
