"""Writes a file so that it is there whole or not at all: a temporary name beside it, synced, then renamed.

Also reading and writing at a place in an open file, on systems without `pread` and `pwrite` (Windows) too.
"""

from __future__ import annotations

import errno
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from zoo.errors import InputError, WorkError

BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)  # Windows would translate line ends
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG}
_CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def atomic_file(destination: Path, *, sources: Sequence[Path] = (), sync: bool = True) -> Iterator[int]:
    """The descriptor of a new file, open for reading and writing, that takes `destination`'s place at the end.

    The mode is what the umask gives a new file. When the block raises (an interrupt too), the new file is removed and
    what stood at `destination` stays. A symbolic link at `destination` is followed.

    Raises InputError where `destination` is one of the `sources` (also through a link), is a folder or lies where
    nothing can be written, and WorkError where the disk is full or fails.
    """
    target = _checked(destination, sources)
    temporary = target.parent / f".{target.name[:100]}.{secrets.token_hex(8)}.tmp"
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | BINARY, 0o666)
    except OSError as error:
        raise InputError(f"cannot write into the folder {target.parent}: {error.strerror}") from error
    try:
        try:
            yield descriptor
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, target)
        if sync:
            _sync_folder(target.parent)
    except OSError as error:
        raise _explained(error, destination) from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _checked(destination: Path, sources: Sequence[Path]) -> Path:
    """Where the file shall really lie."""
    try:
        target = destination.resolve()
        if target.is_dir():
            raise InputError(
                f"{destination} is a folder", suggestion=f"name a file, like {destination}/model.safetensors"
            )
        if target.exists() and not target.is_file():
            raise InputError(f"{destination} is not a regular file, and only such can be replaced")
        if target.parent.exists() and not target.parent.is_dir():
            raise InputError(f"{target.parent} is no folder")
        if not target.parent.is_dir():
            raise InputError(f"there is no folder {target.parent}", suggestion=f"mkdir -p {target.parent}")
        for source in sources:
            if target.exists() and os.path.samefile(source, target):
                raise InputError(
                    f"{destination} is the source itself ({source}): writing there would destroy it",
                    suggestion="name another destination, and move it over afterwards if that is what you want",
                )
    except (OSError, RuntimeError) as error:
        raise InputError(f"cannot write {destination}: {getattr(error, 'strerror', None) or error}") from error
    return target


def _explained(error: OSError, destination: Path) -> Exception:
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return WorkError(
            f"{destination} was not written: {reason}",
            suggestion="make room (or raise the file size limit) and run the command again; nothing was left behind",
        )
    if error.errno in _CLOSED:
        return InputError(f"{destination} was not written: {reason}")
    return WorkError(f"{destination} was not written: {reason}", suggestion="nothing was left behind")


def _sync_folder(folder: Path) -> None:
    """Make the rename last through a power cut; systems that cannot sync a folder (Windows) do so by themselves."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_all(descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """All of `data` at `offset`, however many writes that takes."""
    view = memoryview(data)
    while view:
        written = _write_at(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _seek_and_read(descriptor: int, count: int, offset: int) -> bytes:
    with _SEEKING:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, count)


def _seek_and_write(descriptor: int, data: memoryview, offset: int) -> int:
    with _SEEKING:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.write(descriptor, data)


_SEEKING = threading.Lock()  # threads share descriptors, and a descriptor has one place
read_at = getattr(os, "pread", _seek_and_read)
"""Up to `count` bytes of `descriptor` from `offset` on: `read_at(descriptor, count, offset)`."""
_write_at = getattr(os, "pwrite", _seek_and_write)
