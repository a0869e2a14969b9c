"""Who is at work in a run's folder: a lock that dies with its process, and beside it a note on who has it.

The lock is the system's (flock; on NFS the server's), so none is left over by a run that was killed. Its file stays:
taking it away would let two runs hold locks on two files of one name.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from zoo.errors import InputError, printable
from zoo.file_name import RUN_HOLDER, RUN_LOCK
from zoo.isolation import to_undo
from zoo.training.state import write_json

ORPHANS_SECONDS = 15.0  # in which the processes that loaded a killed run's images notice that it is gone, and end


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """In the block the folder is this process's alone. Raises InputError, which names the holder, where it is not."""
    lock = FileLock(folder / RUN_LOCK, blocking=False)
    _acquire(lock, folder)
    with to_undo():
        try:
            with suppress(OSError):
                write_json(folder / RUN_HOLDER, _self(), sync=False)
            yield
        finally:
            with suppress(OSError):
                (folder / RUN_HOLDER).unlink(missing_ok=True)
            lock.release()


def _acquire(lock: FileLock, folder: Path) -> None:
    end = time.monotonic() + ORPHANS_SECONDS
    while True:
        try:
            lock.acquire()
            return
        except Timeout as error:
            holder = _holder(folder)
            gone = holder.get("host") == platform.node() and not lives(holder.get("pid"))
            if not gone or time.monotonic() > end:
                message = f"another run is at work in {folder}{_described(holder)}"
                hint = "wait for it, or name another folder with --output"
                raise InputError(message, suggestion=hint) from error
        time.sleep(0.2)


def lives(pid: Any) -> bool:
    """Whether this machine has a process of this number; True where that cannot be known."""
    if not isinstance(pid, int) or os.name == "nt":  # there os.kill ends the process that it is asked about
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _self() -> dict[str, Any]:
    program, *arguments = sys.argv or ["python"]
    return {
        "pid": os.getpid(),
        "host": platform.node(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([os.path.basename(program), *arguments]),
    }


def _holder(folder: Path) -> dict[str, Any]:
    """What the holder has noted; empty where it has not yet."""
    with suppress(OSError, ValueError, RecursionError):
        document = json.loads((folder / RUN_HOLDER).read_text(encoding="utf-8"))
        return document if isinstance(document, dict) else {}
    return {}


def _described(holder: dict[str, Any]) -> str:
    if not holder:
        return ""
    pid, host, since, command = (printable(str(holder.get(key))) for key in ("pid", "host", "since", "command"))
    return f": pid {pid} on {host}, since {since} ({command})"
