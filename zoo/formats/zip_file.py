"""Looks into zip files from strangers: where stored entries lie, and small entries read within limits.

Nothing is ever extracted to disk. Sizes that the directory claims are checked against the file, entries may not
overlap (the trick of most zip bombs), and compressed entries are for the caller to allow.
"""

from __future__ import annotations

import os
import zipfile
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import BinaryIO

from zoo.errors import InputError
from zoo.formats.source import ByteRange

MAX_DIRECTORY_BYTES = 100_000_000
LOCAL_HEADER_BYTES = 30
LOCAL_SIGNATURE = b"PK\x03\x04"


class _Bounded:
    """A stretch of a file as a file of its own, whose single reads are bounded: zipfile reads the entire directory at
    once, whatever size it says."""

    def __init__(self, file: BinaryIO, span: ByteRange) -> None:
        self.file, self.start, self.size, self.place = file, span.offset, span.nbytes, 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.size}[whence]
        if not 0 <= place < 2**63:
            raise ValueError(f"there is no byte {place}")
        self.place = place
        return place

    def read(self, size: int = -1) -> bytes:
        if size > MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"its directory says it has {size:,} bytes; {MAX_DIRECTORY_BYTES:,} is the limit")
        left = max(0, self.size - self.place)
        self.file.seek(self.start + min(self.place, self.size))
        content = self.file.read(left if size < 0 else min(size, left))
        self.place += len(content)
        return content


class ZipDirectory(AbstractContextManager["ZipDirectory"]):
    """The entries of the zip file at `path`, or in a part of it, by name.

    Raises InputError where it is damaged or plays tricks.
    """

    def __init__(self, path: Path, part: ByteRange | None = None) -> None:
        self.path = path
        self.span = part or ByteRange(path, 0, os.path.getsize(path))
        self.file = open(path, "rb")  # noqa: SIM115 - closed in __exit__
        try:
            self.archive = zipfile.ZipFile(_Bounded(self.file, self.span))
            self.entries = {info.filename: info for info in self.archive.infolist()}
            self._check_places()
            self._check_names()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, OverflowError) as error:
            self.file.close()
            raise self.damaged(f"{error}") from error
        except InputError:
            self.file.close()
            raise
        starts = sorted(info.header_offset for info in self.entries.values())
        self._limits = dict(zip(starts, [*starts[1:], self.archive.start_dir][: len(starts)], strict=True))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.archive.close()
        self.file.close()

    def damaged(self, reason: str) -> InputError:
        return InputError(
            f"{self.path} is a damaged zip file, or was cut short: {reason}",
            suggestion=f"it is {os.path.getsize(self.path):,} bytes long; compare with the original and copy it again",
        )

    def _check_places(self) -> None:
        """Entries lie in front of the directory, which lies in the file."""
        end = self.archive.start_dir
        if not 0 <= end <= self.span.nbytes:
            raise self.damaged("its directory is not where the file says")
        if outside := [name for name, info in self.entries.items() if not 0 <= info.header_offset <= end]:
            raise self.damaged(f"the entry {outside[0][:200]!r} is not where the directory says")

    def _check_names(self) -> None:
        infos = self.archive.infolist()
        if len(self.entries) < len(infos) or len({info.header_offset for info in infos}) < len(infos):
            raise self.damaged("two of its entries share a name or a place")
        for name in self.entries:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
                raise InputError(
                    f"{self.path} contains an entry that leads out of the archive: {name[:200]!r}",
                    suggestion="do not trust this file: unpacking it elsewhere could overwrite other files",
                )

    def byte_range(self, name: str) -> ByteRange:
        """Where the bytes of the stored (uncompressed) entry `name` lie in the file."""
        info = self.entries[name]
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise InputError(f"the entry {name!r} of {self.path} is compressed; torch.save never does that")
        if info.flag_bits & 1:
            raise InputError(f"the entry {name!r} of {self.path} is encrypted")
        self.file.seek(self.span.offset + info.header_offset)
        local = self.file.read(LOCAL_HEADER_BYTES)
        if len(local) < LOCAL_HEADER_BYTES or not local.startswith(LOCAL_SIGNATURE):
            raise self.damaged(f"the entry {name!r} is not where the directory says")
        name_bytes, extra_bytes = int.from_bytes(local[26:28], "little"), int.from_bytes(local[28:30], "little")
        start = info.header_offset + LOCAL_HEADER_BYTES + name_bytes + extra_bytes
        if start + info.file_size > self._limits[info.header_offset]:
            raise self.damaged(f"the entry {name!r} overlaps the next one")
        return ByteRange(self.path, self.span.offset + start, info.file_size)

    def read(self, name: str, limit: int) -> bytes:
        """The stored entry `name`, checked against its CRC; InputError past `limit` bytes."""
        if self.byte_range(name).nbytes > limit:
            raise InputError(f"the entry {name!r} of {self.path} is larger than {limit:,} bytes; that is no checkpoint")
        try:
            return self.archive.read(name)
        except (zipfile.BadZipFile, ValueError, OSError, EOFError, RuntimeError) as error:
            raise self.damaged(f"{error}") from error
