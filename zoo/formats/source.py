"""An opened file of tensors, whatever its format: entries by name, and the bytes of one tensor at a time."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError
from zoo.formats.dtypes import NUMPY_DTYPES
from zoo.formats.entry import Entry

if TYPE_CHECKING:
    import numpy as np
    import torch


CHUNK = 1 << 20  # bytes that are read at once
EXPANSION_LIMIT = 1 << 30


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Where a tensor's bytes lie as they are, little-endian and in C order: `nbytes` from `offset` in `path`."""

    path: Path
    offset: int
    nbytes: int


class Source(AbstractContextManager["Source"]):
    """An opened checkpoint. Only headers and tables have been read; tensors are read when asked for.

    Attributes:
        location: what the user wrote.
        kind: what the file is, in words.
        entries: the tensors by name, in the file's order; of names that share one tensor, all of them.
        metadata: what the header says beside the tensors.
        aliases: name -> the name that has the same tensor (same bytes, dtype and shape); tied parameters.
        wrappers: prefixes that every name carries, like `module.`; outermost first. They are still on the names.
        notes: what was decided on the way and should be reported, like which of several state dicts was taken.
        files: the files that contain the bytes.
    """

    def __init__(
        self, location: str, kind: str, entries: dict[str, Entry], ranges: dict[str, ByteRange], files: tuple[Path, ...]
    ) -> None:
        self.location = location
        self.kind = kind
        self.entries = entries
        self.ranges = ranges
        self.files = files
        self.metadata: dict[str, str] = {}
        self.aliases: dict[str, str] = {}
        self.wrappers: tuple[str, ...] = ()
        self.notes: list[str] = []

    def tie(self, alias: str, canonical: str) -> None:
        """Make `alias` another name of the tensor `canonical`."""
        self.entries[alias] = replace(self.entries[canonical], name=alias)
        self.ranges[alias] = self.ranges[canonical]
        self.aliases[alias] = canonical

    def byte_range(self, name: str) -> ByteRange | None:
        """Where the bytes of tensor `name` can be copied from, or None where they must be rearranged first."""
        return self.ranges.get(name)

    def array(self, name: str) -> np.ndarray[Any, Any]:
        """Tensor `name` as a fresh numpy array of its shape; BF16 and F8 as integers of the same bits.

        Raises InputError for F4 and F6, which numpy cannot store, and where the file has become too short.
        """
        import numpy as np

        entry, span = self.entries[name], self.ranges[name]
        dtype = np.dtype(numpy_dtype(entry))
        try:
            array = np.fromfile(span.path, dtype, entry.elements, offset=span.offset)
        except OSError as error:
            raise InputError(f"cannot read {span.path} any more: {error.strerror or error}") from error
        if array.size != entry.elements:
            raise InputError(f"{span.path} ended in the middle of tensor {name!r}; was it changed while it was read?")
        return array.reshape(entry.shape)

    def tensor(self, name: str) -> torch.Tensor:
        """Tensor `name` as a fresh torch tensor on the CPU, with its own dtype. Imports torch."""
        from zoo.formats.tensors import to_tensor

        return to_tensor(self.array(name), self.entries[name].dtype)

    def sha256(self) -> str:
        """The digest of the file as it is (of a sharded checkpoint: of the shards, one after the other)."""
        return sha256_of(*self.files)

    def close(self) -> None:
        """Close open files and remove temporary copies."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def sha256_of(*paths: Path) -> str:
    """The sha256 of the files' bytes, one file after the other, in hexadecimal."""
    import hashlib

    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(CHUNK):
                digest.update(block)
    return digest.hexdigest()


def check_expansion(path: Path, nbytes: int, factor: int) -> None:
    """Refuse a small file whose tensors would fill more than a gigabyte and `factor` times its own size.

    Compressed arrays and views that repeat a few bytes can do that on purpose. Raises InputError.
    """
    size = path.stat().st_size
    if nbytes > max(factor * size, EXPANSION_LIMIT):
        raise InputError(
            f"{path} is {size:,} bytes long, but its tensors would fill {nbytes:,}: it looks like a bomb and is refused"
        )


def numpy_dtype(entry: Entry) -> str:
    """The numpy dtype that carries the tensor's bits, or InputError where there is none."""
    if entry.dtype not in NUMPY_DTYPES:
        raise InputError(
            f"tensor {entry.name!r} has the dtype {entry.dtype}, whose elements are not full bytes: "
            "it can be renamed and copied, but not cast or transformed"
        )
    return NUMPY_DTYPES[entry.dtype]
