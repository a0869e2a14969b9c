"""`latest`, beside a run's folder: the run that was begun last, for whoever watches or opens it.

A symbolic link, or, where the system makes none, a small file with the folder's name. What is called `latest` already
is replaced only where it is such a pointer: a link to a run of zoo's beside it (or to one that is gone), or a file that
contains nothing but the name of one.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from zoo.file_name import RUN_MARK, name_mistake

NAME = "latest"
MOST_BYTES = 1024  # of a file that may be a pointer


def point_latest(folder: Path) -> bool:
    """Let `latest` beside the run's folder mean it; False where something else has that name, or nothing can be
    written there: no run fails over it."""
    with suppress(OSError, ValueError):
        home = folder.absolute()
        home = home if home.name not in ("", "..") else home.resolve()
        pointer = home.parent / NAME
        if home.name == NAME or not _is_pointer(pointer):
            return False
        temporary = home.parent / f".{NAME}.{secrets.token_hex(8)}.tmp"
        try:
            _write(temporary, home.name)
            os.replace(temporary, pointer)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()
        return True
    return False


def _write(path: Path, name: str) -> None:
    try:
        path.symlink_to(name, target_is_directory=True)
    except (OSError, NotImplementedError):
        path.write_text(f"{name}\n", encoding="utf-8")


def _is_pointer(path: Path) -> bool:
    """Whether the name is free, or a pointer's."""
    if not os.path.lexists(path):
        return True
    if path.is_symlink():
        name = os.readlink(path)
    elif path.is_file() and path.stat().st_size <= MOST_BYTES:
        name = path.read_text(encoding="utf-8").removesuffix("\n")
    else:
        return False
    if name_mistake(name) is not None:  # more than the name of something beside it
        return False
    target = path.with_name(name)
    return (target / RUN_MARK).is_file() or (path.is_symlink() and not os.path.lexists(target))
