"""Run a plugin's code so that whatever it does becomes a sentence: no crash, no exit, no hang, no stray output.

What it cannot stop: code that ends the process from C, or a loop in C that holds the interpreter.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TypeVar

Result = TypeVar("Result")


class PluginError(Exception):
    """A plugin's code failed; the message is the cause in one line."""


class _OutOfTimeError(BaseException):
    """Raised inside a plugin that takes too long; no `except Exception` of its own swallows it."""


def guarded(work: Callable[[], Result], *, seconds: float | None = None) -> Result:
    """`work()`, its prints sent to standard error. Raises PluginError with the cause, whatever was raised.

    A deadline needs the main thread and POSIX signals; elsewhere there is none. A Ctrl-C of the user's passes through,
    a KeyboardInterrupt the plugin raises itself does not.
    """
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
    """A list that holds something once the user has pressed Ctrl-C."""
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
