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

from zoo.errors import InputError, WorkError

VARIABLE = "ZOO_PROCESS_TIMEOUT"
SECONDS = 60.0
INTERVAL = 0.5
STORE_SECONDS = 10.0  # for an answer of the store, which is the launcher's, or the first process's
LAUNCHER_SECONDS = 5.0  # for its signal once a process is dead
TERMINATED = 128 + signal.SIGTERM


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
    try:
        yield
    except BaseException as error:
        lost = watch.lost()  # a connection that broke is no news beside the process that broke it
        if lost is not None:
            watch.ended.wait(LAUNCHER_SECONDS)  # where the launcher's signal comes, the thread says it, and ends
        watch.end("failed")
        if lost is not None:
            raise WorkError(f"{lost}; the others end", suggestion=back) from error
        raise
    watch.end("done")


class _Watch:
    """This process's thread, its connection to the store, and what it knows of the others."""

    def __init__(self, rank: int, world: int, allowed: float, back: str) -> None:
        self.rank, self.world, self.allowed, self.back = rank, world, allowed, back
        self.store = _store()
        self.store.set(f"zoo/who/{rank}", json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        self.ended = threading.Event()
        self.heard, self.wake = os.pipe()
        os.set_blocking(self.wake, False)
        self.handles = threading.current_thread() is threading.main_thread()
        if self.handles:
            self.before: Any = signal.signal(signal.SIGTERM, lambda *_: None)
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
            signal.signal(signal.SIGTERM, self.before)
        self.thread.join(2 * INTERVAL)

    def _run(self) -> None:
        seen = {rank: (0, time.monotonic()) for rank in range(self.world) if rank != self.rank}
        while not self.ended.is_set():
            if self.handles and self._terminated():
                self._leave(self.lost(), TERMINATED)
            try:
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

    def _terminated(self) -> bool:
        """Whether SIGTERM came, waiting for it until the next round."""
        ready, _, _ = select.select([self.heard], [], [], INTERVAL)
        return bool(ready) and signal.SIGTERM in os.read(self.heard, 64)

    def lost(self) -> str | None:
        """What to say of a process that was killed; None where all that ended did so by themselves, or where another
        process says it."""
        time.sleep(INTERVAL / 2)
        dead = [rank for rank in range(self.world) if rank != self.rank and not self._lives(rank)]
        killed = [rank for rank in dead if not self._has_ended(rank)]
        if not killed or self.rank != min(rank for rank in range(self.world) if rank not in dead):
            return None
        return f"{', '.join(map(self._name, killed))} was killed (by the system, if memory ran out: see dmesg)"

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
