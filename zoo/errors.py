"""The one family of errors zoo shows to people: what is wrong, where, and what to type next.

`InputError` means the user's input is wrong (exit code 2); `WorkError` means the work itself failed
(exit code 1). Both carry every problem found, not only the first. A traceback that reaches a user is a bug.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Location:
    """A place in a file; `line` and `column` count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    @property
    def within(self) -> str:
        """The place as said of a file that is known: `line 3`."""
        return f"line {self.line}"


@dataclass(frozen=True)
class Problem:
    """One mistake: what is wrong, where it stands, and what to type instead (`suggestion`)."""

    message: str
    location: Location | None = None
    suggestion: str | None = None

    def __str__(self) -> str:
        where = f"{self.location}: " if self.location else ""
        hint = f" ({self.suggestion})" if self.suggestion else ""
        return f"{where}{self.message}{hint}"

    def as_dict(self) -> dict[str, Any]:
        """The row of a `--json` document: file, line, column, message, suggestion."""
        place = asdict(self.location) if self.location else {"file": None, "line": None, "column": None}
        return {**place, "message": self.message, "suggestion": self.suggestion}


class ZooError(Exception):
    """Base of all errors meant for a person; never raised itself."""

    exit_code = 1

    def __init__(
        self,
        message: str | Iterable[Problem],
        *,
        location: Location | None = None,
        suggestion: str | None = None,
    ) -> None:
        if isinstance(message, str):
            self.problems: tuple[Problem, ...] = (Problem(message, location, suggestion),)
        else:
            self.problems = tuple(message)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class InputError(ZooError):
    """What the user wrote or named is wrong; nothing was done. Exit code 2."""

    exit_code = 2


class WorkError(ZooError):
    """The input was fine but the work failed: coverage, verification, training, disk. Exit code 1."""

    exit_code = 1


class TerminatedError(KeyboardInterrupt):
    """A signal by which a system or a scheduler ends a run (SIGTERM, SIGUSR1): it is kept as after Ctrl-C."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        self.signal = signal.Signals(number).name
        self.exit_code = 128 + number
        super().__init__(self.signal)


_NO_MEMORY = re.compile(r"not enough memory|can't allocate memory|cannot allocate memory|bad_alloc|out of memory", re.I)


def text_of(thing: object) -> str:
    """`str(thing)`; empty where that fails itself, as the text of an exception from anywhere may."""
    try:
        return str(thing)
    except BaseException:  # whatever the author of a `__str__` got wrong
        return ""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out: Python's and numpy's, torch's on a GPU and on the CPU, the
    system's."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & {"MemoryError", "OutOfMemoryError"}) or bool(_NO_MEMORY.search(text_of(error)))


def nearest(name: str, candidates: Iterable[str], count: int = 3) -> list[str]:
    """The candidates most like `name`, best first; a match of the part behind the last slash counts too."""
    import difflib  # only a mistake pays for it

    pool = list(dict.fromkeys(candidates))
    lowered = {candidate.lower(): candidate for candidate in pool}
    close = [lowered[match] for match in difflib.get_close_matches(name.lower(), list(lowered), count, 0.6)]
    if len(close) < count:
        tail = name.rsplit("/", 1)[-1].lower()
        tails = {candidate.rsplit("/", 1)[-1].lower(): candidate for candidate in pool}
        close += [tails[match] for match in difflib.get_close_matches(tail, list(tails), count, 0.7)]
    return list(dict.fromkeys(close))[:count]


def did_you_mean(name: str, candidates: Iterable[str]) -> str | None:
    """`did you mean a, b or c?` for the nearest candidates, or None when nothing is near."""
    close = nearest(name, candidates)
    return f"did you mean {any_of(close)}?" if close else None


def any_of(names: Sequence[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} or {names[-1]}"


def listed(names: Iterable[str], shown: int = 6) -> str:
    """`a, b, c and 4 more`: the first few names, as one line, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return ", ".join(map(printable, names[:shown])) + more


def printable(line: str) -> str:
    """The line with control characters spelled out: names come from files, and a terminal obeys what it is sent."""
    if line.isprintable():
        return line
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in line)


def first_problems(problems: Sequence[Problem], shown: int = 10) -> list[Problem]:
    """The first few problems, and a last one that says how many more there are."""
    more = len(problems) - shown
    return [*problems[:shown], *([Problem(f"and {more:,} more problems like these")] if more > 0 else [])]
