"""Ctrl-C in a command, whenever it comes: one line, exit code 130, nothing left behind.

Before a command's work begins there is nothing to undo, and it ends at once. While it works a KeyboardInterrupt lets
every file and lock be put right; but not in the middle of an import: compiled modules, once cut short, fail in ways
that read as bugs for the rest of the process. There it ends at once too, or, where something is to be undone, is
raised when the import is done.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from zoo.isolation import anything_to_undo

CODE = 130
AGAIN = 0.05  # seconds until it is tried again
_IMPORT = "<frozen importlib._bootstrap>"


def end_at_once() -> None:
    """From now on Ctrl-C ends the process; for the command line alone, before its work."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


@contextlib.contextmanager
def raised_between_imports() -> Iterator[None]:
    """For a command's work: Ctrl-C raises KeyboardInterrupt, but never in an import."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before not in (signal.default_int_handler, _end):
        yield
        return
    signal.signal(signal.SIGINT, _raise_later)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end(number: int, frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"interrupted\n")
    os._exit(CODE)


def _raise_later(number: int, frame: FrameType | None) -> None:
    at = frame
    while at is not None and at.f_code.co_filename != _IMPORT:
        at = at.f_back
    if at is None:
        raise KeyboardInterrupt
    if not anything_to_undo():
        _end(number, frame)
    again = threading.Timer(AGAIN, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()
