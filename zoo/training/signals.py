"""Signals that end a run: SIGTERM, by which a system does, and SIGUSR1, by which a scheduler warns of it.

While a train step's loop is at work a signal waits for the end of the present optimizer step, where a state is saved,
so that nothing is lost; anywhere else, and a second time, it ends the run at once. Several processes end behind the
same optimizer step, whichever of them the signal reached (`zoo.training.processes`).
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from zoo.errors import TerminatedError
from zoo.isolation import owns_process

NUMBERS = [int(getattr(signal, name)) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]  # Windows: SIGTERM


AGAIN_SECONDS = 5.0


class Ending:
    """What signals have asked of this process.

    `agree` takes the place of its answer where there are several processes, `leaving` is told why where one of them
    has to end without its main thread.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self.since = 0.0
        self.waits = False
        self.agree: Callable[[], int | None] | None = None
        self.leaving: Callable[[str | None, int], None] | None = None

    def ask(self, number: int, _frame: FrameType | None = None) -> None:
        """The handler of the signals."""
        if not self.waits or self.again():
            raise TerminatedError(number)
        if self.asked is None:
            self.asked, self.since = number, time.monotonic()

    def again(self) -> bool:
        """Whether a signal that comes now is another one: a scheduler's may come twice, to a process and its group."""
        return self.asked is not None and time.monotonic() - self.since > AGAIN_SECONDS

    @contextmanager
    def waiting(self, waits: bool = True) -> Iterator[None]:
        """In the block a signal waits until `due` is asked; with `waits=False` inside one, it does not."""
        before, self.waits = self.waits, waits
        try:
            yield
        finally:
            self.waits = before

    @contextmanager
    def between(self) -> Iterator[None]:
        """A part of the loop that takes long and changes nothing: a signal need not wait, unless others take part."""
        with self.waiting(self.waits and self.agree is not None):
            self.check()
            yield

    def due(self) -> int | None:
        """Called after every optimizer step: the signal that ends the run here."""
        return self.agree() if self.agree is not None else self.asked

    def check(self) -> None:
        """Raises TerminatedError where a signal came meanwhile; of several processes the next steps agree."""
        if self.asked is not None and self.agree is None:
            raise TerminatedError(self.asked)


ENDING = Ending()


@contextmanager
def terminable() -> Iterator[None]:
    """In a command of the command line, the signals in the block raise TerminatedError; a library leaves them alone."""
    if not owns_process() or threading.current_thread() is not threading.main_thread():
        yield
        return
    ENDING.asked = None
    previous = {number: signal.signal(number, ENDING.ask) for number in NUMBERS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
