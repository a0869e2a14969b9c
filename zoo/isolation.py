"""Run a plugin's code so that whatever it raises becomes a sentence that names the plugin's file and line.

A library leaves the process alone. A command line owns it: within `owned_process`, and only there, what plugins print
goes to standard error, what an import changes around itself is put back (`zoo.surroundings`), and the memory allocator
may be tuned.

What it cannot stop is code that ends the process or never ends: a plugin is therefore imported in a process of its own
first (`zoo.plugin_process`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import TypeVar

from zoo.errors import TerminatedError, ZooError, printable, text_of

Result = TypeVar("Result")

_OWNED: ContextVar[bool] = ContextVar("zoo owns the process", default=False)
_HERE = str(Path(__file__).parent)


@contextlib.contextmanager
def owned_process() -> Iterator[None]:
    """For a command of the command line: the process is zoo's for the time of the block, and may be changed."""
    token = _OWNED.set(True)
    try:
        yield
    finally:
        _OWNED.reset(token)


def owns_process() -> bool:
    """Whether a command of the command line is running; False in every library call and in threads it starts."""
    return _OWNED.get()


_TO_UNDO: list[None] = []


@contextlib.contextmanager
def to_undo() -> Iterator[None]:
    """While something lies on the disk that the end of the block removes: see `anything_to_undo`."""
    _TO_UNDO.append(None)
    try:
        yield
    finally:
        _TO_UNDO.pop()


def anything_to_undo() -> bool:
    """Whether the process, ended now, would leave temporary files, or a folder with a note that it is in use."""
    return bool(_TO_UNDO)


class PluginError(Exception):
    """A plugin's code failed; the message is the cause in one line, with the plugin's file and line."""


def guarded(work: Callable[[], Result], *, package: str = "", passing: tuple[type[ZooError], ...] = ()) -> Result:
    """`work()`. Raises PluginError with the cause, whatever was raised but what `passing` names.

    `package` is the plugin's top-level package, whose file and line the cause names. In a library call a
    KeyboardInterrupt passes through. In a command, prints go to standard error and only a Ctrl-C of the user's passes
    through.
    """
    if not owns_process():
        try:
            return work()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if isinstance(error, passing):
                raise
            raise failure_of(error, package) from error
    with _watched_interrupts() as pressed, contextlib.redirect_stdout(sys.stderr):
        try:
            return work()
        except BaseException as error:
            if isinstance(error, (*passing, TerminatedError)) or (isinstance(error, KeyboardInterrupt) and pressed):
                raise
            raise failure_of(error, package) from error


def failure_of(error: BaseException, package: str = "") -> PluginError:
    """The failure as a sentence; the entire traceback is kept for the end of the command where it was asked for."""
    note(error)
    return PluginError(cause_of(error, package))


def cause_of(error: BaseException, package: str = "") -> str:
    """`ImportError: no module named x (/where/plugin.py:3)`, on one line.

    The place is the deepest line of the plugin's `package` that was running, else the deepest that is not zoo's. An
    error whose text cannot be had is its type alone.
    """
    said = text_of(error)
    if isinstance(error, SyntaxError):
        said = text_of(error.msg)
    where = place_of(error, package)
    cause = printable(" ".join(f"{type(error).__name__}: {said}".split()).rstrip(":"))
    return f"{cause} ({where})" if where else cause


def place_of(error: BaseException, package: str = "") -> str:
    """`file:line` of a plugin's failure; of a syntax error the line that cannot be read. Empty where none is known."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    own = others = ""
    trace = error.__traceback__
    while trace is not None:
        frame, line, trace = trace.tb_frame, trace.tb_lineno, trace.tb_next
        file = frame.f_code.co_filename
        if file.startswith(("<", _HERE)):
            continue
        others = f"{file}:{line}"
        if package and str(frame.f_globals.get("__name__")).partition(".")[0] == package:
            own = others
    return own or others


TRACEBACKS = "ZOO_TRACEBACK"  # the variable that asks for the entire tracebacks of failures
_NOTED: list[BaseException | str] = []


def wants_tracebacks() -> bool:
    """Whether the entire tracebacks of failures are wanted: `--traceback`, or the variable ZOO_TRACEBACK."""
    return bool(os.environ.get(TRACEBACKS))


def note(failure: BaseException | str) -> None:
    """Keep a failure that becomes a sentence, so that its entire traceback can be shown where that is wanted."""
    if wants_tracebacks() and failure not in _NOTED:
        _NOTED.append(failure)


def noted() -> list[BaseException | str]:
    """The failures since the last call, exceptions and finished tracebacks; they are forgotten."""
    found = _NOTED[:]
    _NOTED.clear()
    return found


def warn(text: str) -> None:
    """Say something that is worth knowing and stops nothing: a line on standard error in a command, a warning of
    Python's in a library call."""
    if owns_process():
        sys.stderr.write(f"warning: {printable(text)}\n")
        return
    import warnings

    warnings.warn(text, stacklevel=3)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def _watched_interrupts() -> Iterator[list[int]]:
    """A list that is not empty once the user has pressed Ctrl-C."""
    pressed: list[int] = []
    previous = signal.getsignal(signal.SIGINT)
    if not _in_main_thread() or not callable(previous):
        yield pressed
        return

    def interrupted(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        previous(number, frame)

    signal.signal(signal.SIGINT, interrupted)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, previous)
