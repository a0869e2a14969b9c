"""Run a plugin's code so that whatever it raises becomes a sentence and, in a command of zoo's, that it ends in time.

A library leaves the process alone. A command line owns it: within `owned_process`, and only there, plugins have
deadlines (signal handlers), their prints go to standard error, and the memory allocator may be tuned.

What it cannot stop: code that ends the process from C, or a loop in C that holds the interpreter.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import FrameType
from typing import TypeVar

Result = TypeVar("Result")

_OWNED: ContextVar[bool] = ContextVar("zoo owns the process", default=False)


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


class PluginError(Exception):
    """A plugin's code failed; the message is the cause in one line."""


class _OutOfTimeError(BaseException):
    """Raised inside a plugin that takes too long; no `except Exception` of its own swallows it."""


def guarded(work: Callable[[], Result], *, seconds: float | None = None) -> Result:
    """`work()`. Raises PluginError with the cause, whatever was raised.

    In a library call a KeyboardInterrupt passes through, and there is no deadline. In a command, prints go to standard
    error and only a Ctrl-C of the user's passes through; the deadline needs the main thread and POSIX signals.
    """
    if not owns_process():
        try:
            return work()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise PluginError(_cause(error)) from error
    with _watched_interrupts() as pressed, contextlib.redirect_stdout(sys.stderr):
        try:
            with _deadline(seconds):
                return work()
        except _OutOfTimeError:
            raise PluginError(f"took more than {seconds:g} s") from None
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and pressed:
                raise
            raise PluginError(_cause(error)) from error


def _cause(error: BaseException) -> str:
    """`ImportError: no module named x`, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(":")


def _in_main_thread() -> bool:
    return hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def _deadline(seconds: float | None) -> Iterator[None]:
    """Raise _OutOfTimeError in the body after `seconds`, and again every half second until it gives in."""
    if seconds is None or not _in_main_thread():
        yield
        return

    def expired(_signal: int, _frame: FrameType | None) -> None:
        raise _OutOfTimeError

    previous = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


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
