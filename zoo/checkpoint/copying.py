"""Copies ranges of bytes between open files, in the kernel where it can, and keeps the disk busy meanwhile."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from zoo.checkpoint.atomic import BINARY, read_at, write_all
from zoo.checkpoint.sources.source import ByteRange
from zoo.errors import WorkError

CHUNK = 1 << 20
STEP = 1 << 25
_UNSUPPORTED = {errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM, errno.ETXTBSY}


class Readers(ExitStack):
    """Files open for reading, each opened once; closed together."""

    def __init__(self) -> None:
        super().__init__()
        self._descriptors: dict[Path, int] = {}

    def descriptor(self, path: Path) -> int:
        if path not in self._descriptors:
            try:
                descriptor = os.open(path, os.O_RDONLY | BINARY)
            except OSError as error:
                raise WorkError(f"cannot read {path} any more: {error.strerror}") from error
            self.callback(os.close, descriptor)
            self._descriptors[path] = descriptor
        return self._descriptors[path]

    def chunks(self, span: ByteRange, size: int = CHUNK) -> Iterator[bytes]:
        """The bytes of a range, up to `size` at a time. Raises WorkError where the file has become too short."""
        descriptor, position, end = self.descriptor(span.path), span.offset, span.offset + span.nbytes
        while position < end:
            wanted = min(size, end - position)
            block = read_at(descriptor, wanted, position)
            while len(block) < wanted:
                more = read_at(descriptor, wanted - len(block), position + len(block))
                if not more:
                    raise WorkError(f"{span.path} ended at byte {position + len(block):,}; was it changed meanwhile?")
                block += more
            yield block
            position += wanted

    def copy(self, span: ByteRange, destination: WriteBehind, offset: int) -> None:
        """The bytes of a range into the destination at `offset`."""
        done = 0
        for in_kernel in _KERNEL_COPIES:
            done += _copy_in_kernel(in_kernel, self.descriptor(span.path), destination, span, offset, done)
        rest = ByteRange(span.path, span.offset + done, span.nbytes - done)
        for block in self.chunks(rest):
            destination.write(block, offset + done)
            done += len(block)


class WriteBehind:
    """A file written from front to back whose bytes go to the disk while the next ones are made.

    Without that the disk stands still until the file is synced at the end, and everybody waits. `active` is for files
    that will be synced.
    """

    def __init__(self, descriptor: int, *, active: bool = True) -> None:
        self.descriptor = descriptor
        self.begun = 0 if active and sys.platform == "linux" and hasattr(os, "posix_fadvise") else None

    def write(self, data: bytes | memoryview, offset: int) -> None:
        write_all(self.descriptor, data, offset)
        self.reached(offset + len(data))

    def reached(self, position: int) -> None:
        """Everything before `position` is written; let the disk have it once there is enough of it."""
        if self.begun is not None and position - self.begun >= STEP:
            # On Linux this starts writing dirty pages back and returns; what is still dirty stays in the page cache.
            os.posix_fadvise(self.descriptor, self.begun, position - self.begun, os.POSIX_FADV_DONTNEED)
            self.begun = position


def _copy_in_kernel(
    copy: Callable[[int, int, int, int, int], int],
    source: int,
    destination: WriteBehind,
    span: ByteRange,
    offset: int,
    done: int,
) -> int:
    """How many bytes past `done` the kernel copied; it may stop anywhere when the file systems do not support it."""
    start = done
    while done < span.nbytes:
        try:
            count = min(STEP, span.nbytes - done)
            count = copy(source, destination.descriptor, count, span.offset + done, offset + done)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            break
        if not count:
            break
        done += count
        destination.reached(offset + done)
    return done - start


def _send_file(source: int, destination: int, count: int, source_offset: int, offset: int) -> int:
    os.lseek(destination, offset, os.SEEK_SET)
    return os.sendfile(destination, source, source_offset, count)


def _kernel_copies() -> Iterator[Callable[[int, int, int, int, int], int]]:
    """What this system has of them; elsewhere than on Linux `sendfile` takes sockets only."""
    if sys.platform == "linux":
        if hasattr(os, "copy_file_range"):  # not with every libc
            yield os.copy_file_range
        if hasattr(os, "sendfile"):
            yield _send_file


_KERNEL_COPIES = tuple(_kernel_copies())
