"""The processes of one run watch each other: one that was killed, or that is silent, is named, with what to type.

Each has a thread that counts up a number of its own in the launcher's store, and looks at those of the others. It says
whether a process runs at all; how far its work is, nothing here asks, so that one may measure or write for hours while
the others wait. A process that stops (SIGSTOP, a machine that hangs) no longer counts: after `ZOO_PROCESS_TIMEOUT`
seconds (60) the others name it and end. Of a killed one the launcher tells the others by SIGTERM; the signal wakes the
thread through a file descriptor, since the main thread may be inside a collective operation that never returns.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from accelerate.state import PartialState

from zoo.errors import InputError, TerminatedError, WorkError
from zoo.training.signals import ENDING, NUMBERS

VARIABLE = "ZOO_PROCESS_TIMEOUT"
SECONDS = 60.0
INTERVAL = 0.5
STORE_SECONDS = 10.0  # for an answer of the store, which is the launcher's, or the first process's
LAUNCHER_SECONDS = 5.0  # for its signal once a process is dead
CONCLUDE_SECONDS = (
    60.0  # in which the first process writes what is kept; a launcher ends all when the first one is gone
)


def silence_allowed() -> float:
    """Seconds after which a silent process is given up. Raises InputError where the variable is no such number."""
    text = os.environ.get(VARIABLE, "")
    try:
        seconds = float(text) if text else SECONDS
    except ValueError:
        seconds = 0.0
    if not seconds > INTERVAL:
        raise InputError(f"{VARIABLE} is {text!r}", suggestion="write a number of seconds, for instance 60")
    return seconds


@contextmanager
def processes_watched(run: str) -> Iterator[None]:
    """In the block the processes of the run, where there are several, watch each other; `run` is what `zoo finetune`
    was given, which the advice repeats. Raises InputError as `silence_allowed`."""
    processes = PartialState()
    if processes.num_processes < 2 or "MASTER_ADDR" not in os.environ or sys.platform == "win32":
        yield
        return
    local = os.environ.get("LOCAL_WORLD_SIZE", processes.num_processes)
    back = f"torchrun --nproc-per-node {local} -m zoo finetune {run} --resume"
    watch = _Watch(processes.process_index, processes.num_processes, silence_allowed(), back)
    ENDING.agree = watch.due
    try:
        yield
    except TerminatedError:
        if processes.process_index:
            watch.wait_for_first()
        watch.end("failed")
        raise
    except BaseException as error:
        lost = watch.lost()  # a connection that broke is no news beside the process that broke it
        if lost is not None:
            watch.ended.wait(LAUNCHER_SECONDS)  # where the launcher's signal comes, the thread says it, and ends
        watch.end("failed")
        if lost is not None:
            raise WorkError(f"{lost}; the others end", suggestion=back) from error
        raise
    finally:
        ENDING.agree = None
    watch.end("done")


class _Watch:
    """This process's thread, its connection to the store, and what it knows of the others."""

    def __init__(self, rank: int, world: int, allowed: float, back: str) -> None:
        self.rank, self.world, self.allowed, self.back = rank, world, allowed, back
        self.store = _store()
        self.store.set(f"zoo/who/{rank}", json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        self.ended = threading.Event()
        self.number: int | None = None  # the signal that a process was sent, once all know of it
        self.leads = self.announced = False  # whether this process was, the first of all, and has said where to end
        self.steps = 0
        self.heard, self.wake = os.pipe()
        os.set_blocking(self.wake, False)
        self.handles = threading.current_thread() is threading.main_thread()
        if self.handles:
            self.before = {number: signal.signal(number, lambda *_: None) for number in NUMBERS}
            signal.set_wakeup_fd(self.wake, warn_on_full_buffer=False)
        self.thread = threading.Thread(target=self._run, daemon=True, name="zoo-processes")
        self.thread.start()

    def end(self, how: str) -> None:
        """The block is over in this process: the others need not miss it."""
        self.ended.set()
        with suppress(Exception):  # the store may be gone with the process that had it
            self.store.set(f"zoo/ended/{self.rank}", how)
        if self.handles:
            signal.set_wakeup_fd(-1)
            for number, handler in self.before.items():
                signal.signal(number, handler)
        self.thread.join(2 * INTERVAL)

    def _run(self) -> None:
        seen = {rank: (0, time.monotonic()) for rank in range(self.world) if rank != self.rank}
        while not self.ended.is_set():
            number = self._signalled() if self.handles else None
            if number is not None and (not ENDING.waits or ENDING.again() or self._killed()):
                self._leave(self.lost(), 128 + number)
            try:
                self._spread(number)
                self.store.add(f"zoo/alive/{self.rank}", 1)
                for rank, (count, since) in seen.items():
                    now = self.store.add(f"zoo/alive/{rank}", 0)
                    seen[rank] = (now, since) if now == count else (now, time.monotonic())
            except Exception:  # torch's store raises what it likes
                if not self.ended.wait(INTERVAL):
                    self._leave("the process that the others meet at is gone, or stopped: most often the first one", 1)
                return
            silent = [rank for rank, (_, since) in seen.items() if time.monotonic() - since > self.allowed]
            silent = [rank for rank in silent if not self._has_ended(rank)]
            if silent and self.rank == min({*seen, self.rank} - {*silent}):  # one speaks for all
                names = ", ".join(map(self._name, silent))
                self._leave(f"no sign of {names} for {self.allowed:g} s: stopped, or its machine hangs", 1)

    def _signalled(self) -> int | None:
        """The signal that came, waiting for one until the next round."""
        ready, _, _ = select.select([self.heard], [], [], INTERVAL)
        came = os.read(self.heard, 64) if ready else b""
        return next((number for number in NUMBERS if number in came), None)

    def _spread(self, number: int | None) -> None:
        """Let all processes know of a signal, and count those that do."""
        if number is not None and self.store.add("zoo/asking", 1) == 1:
            self.leads = True
            self.store.set("zoo/asked", str(number))
        if self.number is None and self.store.check(["zoo/asked"]):
            self.number = int(self.store.get("zoo/asked"))
            self.store.add("zoo/knowing", 1)

    def due(self) -> int | None:
        """Called by all processes after each optimizer step: the signal, where this is the step behind which they end.

        Nothing is asked of the store before there was a signal. Once all processes know of it, and ask, the one that
        it reached names the step that comes next: none can be further, for each step is taken together.
        """
        self.steps += 1
        if self.number is None:
            return None
        if self.leads and not self.announced and self.store.add("zoo/knowing", 0) == self.world:
            self.store.set("zoo/end", str(self.steps + 1))
            self.announced = True
        end = int(self.store.get("zoo/end")) if self.store.check(["zoo/end"]) else None
        return self.number if end == self.steps else None

    def wait_for_first(self) -> None:
        """Until the first process has written what is kept."""
        end = time.monotonic() + CONCLUDE_SECONDS
        with suppress(Exception):
            while time.monotonic() < end and self._lives(0) and not self._has_ended(0):
                time.sleep(INTERVAL / 2)

    def lost(self) -> str | None:
        """What to say of a process that was killed; None where all that ended did so by themselves, or where another
        process says it."""
        dead, killed = self._dead(), self._killed()
        if not killed or self.rank != min(rank for rank in range(self.world) if rank not in dead):
            return None
        return f"{', '.join(map(self._name, killed))} was killed (by the system, if memory ran out: see dmesg)"

    def _dead(self) -> list[int]:
        return [rank for rank in range(self.world) if rank != self.rank and not self._lives(rank)]

    def _killed(self) -> list[int]:
        """The processes that have ended without saying so."""
        time.sleep(INTERVAL / 2)
        return [rank for rank in self._dead() if not self._has_ended(rank)]

    def _lives(self, rank: int) -> bool:
        """Whether a process of this machine is there; those of others count as there."""
        who = self._who(rank)
        if who["host"] != socket.gethostname():
            return True
        try:
            state = Path(f"/proc/{who['pid']}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]
            return state not in ("Z", "X")
        except OSError:
            return False

    def _has_ended(self, rank: int) -> bool:
        return bool(self.store.check([f"zoo/ended/{rank}"]))

    def _who(self, rank: int) -> dict[str, Any]:
        if not self.store.check([f"zoo/who/{rank}"]):
            return {"pid": "unknown", "host": ""}
        who: dict[str, Any] = json.loads(self.store.get(f"zoo/who/{rank}"))
        return who

    def _name(self, rank: int) -> str:
        who = self._who(rank)
        return f"process {rank + 1} of {self.world} (rank {rank}, pid {who['pid']} on {who['host']})"

    def _leave(self, message: str | None, code: int) -> None:
        """End at once, without the main thread, which may wait for ever."""
        if self.ended.is_set():
            return
        if ENDING.leaving is not None:
            ENDING.leaving(message, code - 128)
        if message is not None:
            with suppress(Exception):
                self.store.set(f"zoo/ended/{self.rank}", "failed")
            sys.stderr.write(f"error: {message}; the others end ({self.back})\n")
            sys.stderr.flush()
        os._exit(code)


def _store() -> Any:
    """A connection of its own to the store at which the processes met."""
    from datetime import timedelta

    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(address, port, is_master=False, timeout=timedelta(seconds=STORE_SECONDS))
