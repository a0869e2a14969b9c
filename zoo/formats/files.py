"""Files on disk: written completely or not at all, and ranges of bytes copied between open files."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from zoo.errors import InputError, WorkError
from zoo.formats.source import CHUNK, ByteRange
from zoo.isolation import to_undo

BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)  # Windows would translate line ends
FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG}
_CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}


def kind_of(mode: int) -> str:
    """What lies at a path, by its `st_mode`, where it is no regular file: reading a pipe or a device may never end."""
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


@contextmanager
def atomic_file(destination: Path, *, sources: Sequence[Path] = (), sync: bool = True) -> Iterator[int]:
    """The descriptor of a new file, open for reading and writing, that takes `destination`'s place at the end.

    Its permissions are those of any new file. When the block raises (an interrupt too), the new file is removed and
    what was at `destination` stays. A symbolic link at `destination` is followed.

    Raises InputError where `destination` is one of the `sources` (also through a link), is a folder or lies where
    nothing can be written, and WorkError where the disk is full or fails.
    """
    with to_undo():
        yield from _written_aside(destination, sources, sync)


def _written_aside(destination: Path, sources: Sequence[Path], sync: bool) -> Iterator[int]:
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


def check_free(path: Path, *, overwrite: bool, sources: Iterable[str | os.PathLike[str]] = ()) -> None:
    """Raises InputError, before anything is computed, where a file would be replaced unasked; and whatever was asked
    where `path` is a folder, has none to lie in, or is one of the `sources` that are read (files, or runs' folders)."""
    files = [Path(source, "model.safetensors") if os.path.isdir(source) else Path(source) for source in sources]
    _checked(path, [file for file in files if file.exists()])
    if path.exists() and not overwrite:
        raise InputError(f"{path} is there already", suggestion="replace it: --overwrite, or name another file")


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


class FullDiskError(WorkError):
    """A file that the disk, a quota or a limit has no room for."""


def _explained(error: OSError, destination: Path) -> Exception:
    reason = error.strerror or str(error)
    if error.errno in FULL:
        return FullDiskError(
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

    Without that the disk is idle until the file is synced at the end, and everybody waits. `active` is for files that
    will be synced.
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
