"""Opens .npz and .npy files without pickle: arrays of numbers only."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError
from zoo.formats.dtypes import FROM_NUMPY, NUMPY_DTYPES
from zoo.formats.entry import Entry, is_possible
from zoo.formats.source import ByteRange, Source, check_expansion
from zoo.formats.zip_file import ZipDirectory

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class _Member:
    """An array as its .npy header describes it; its data begin `start` bytes into what `open` gives."""

    open: Callable[[], Any]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran_order: bool
    start: int


class NumpySource(Source):
    """The arrays of an .npz or .npy file. Compressed arrays, other byte orders and Fortran order are read at once."""

    def __init__(self, location: str, kind: str, path: Path, archive: ZipDirectory | None = None) -> None:
        super().__init__(location, kind, {}, {}, (path,))
        self.members: dict[str, _Member] = {}
        self.archive = archive

    def add(self, name: str, open_member: Callable[[], Any], stored: ByteRange | None) -> None:
        """Add the array `name`; `stored` is where its .npy lies uncompressed, if it does."""
        member = _read_header(name, self.location, open_member)
        dtype = _dtype(member.dtype)
        if dtype is None:
            self.notes.append(f"left out {name!r}: safetensors files cannot contain its type {member.dtype}")
            return
        if not is_possible(member.shape, dtype):
            raise InputError(f"the array {name!r} in {self.location} has the impossible shape {member.shape}")
        entry = self.entries[name] = Entry(name, dtype, member.shape)
        self.members[name] = member
        if stored is not None and stored.nbytes != member.start + entry.nbytes:
            raise InputError(f"the array {name!r} in {self.location} is not as long as its header says")
        if stored is not None and member.dtype.str[0] in "<|" and not member.fortran_order:
            self.ranges[name] = ByteRange(stored.path, stored.offset + member.start, entry.nbytes)

    def array(self, name: str) -> np.ndarray[Any, Any]:
        if name in self.ranges:
            return super().array(name)
        import numpy as np

        member = self.members[name]
        array = np.empty(member.shape, member.dtype, order="F" if member.fortran_order else "C")
        try:
            with member.open() as file:
                file.read(member.start)
                count = file.readinto(array.reshape(-1, order="A").view("u1").data) if array.size else 0
        except (OSError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"the array {name!r} in {self.location} is damaged: {error}") from error
        if count != array.nbytes:
            raise InputError(f"the array {name!r} in {self.location} was cut short")
        carried = np.dtype(NUMPY_DTYPES[self.entries[name].dtype])
        return np.ascontiguousarray(array.view(carried) if array.dtype.kind == "V" else array.astype(carried))

    def close(self) -> None:
        if self.archive is not None:
            self.archive.__exit__(None, None, None)


def _dtype(dtype: np.dtype[Any]) -> str | None:
    """The safetensors dtype of a numpy dtype. Two raw bytes (V2) are how JAX writes bfloat16."""
    import numpy as np

    plain = {np.dtype(code).str: name for code, name in FROM_NUMPY.items()}
    return "BF16" if dtype.str == "|V2" else plain.get(dtype.newbyteorder("<").str)


def _read_header(name: str, location: str, open_member: Callable[[], Any]) -> _Member:
    from numpy.lib import format as npy

    try:
        with open_member() as file:
            version = npy.read_magic(file)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, fortran_order, dtype = read(file)
            start = file.tell()
    except Exception as error:  # the header is a Python literal, and numpy's parser fails in many ways
        raise InputError(f"the array {name!r} in {location} is damaged: {error}") from error
    if dtype.hasobject:
        raise InputError(
            f"the array {name!r} in {location} contains Python objects; reading them would run code that it chooses",
            suggestion="save arrays of numbers: np.savez(FILE, **{name: np.asarray(value, np.float32)})",
        )
    if len(shape) > 64 or not all(type(size) is int and 0 <= size < 2**63 for size in shape):
        raise InputError(f"the array {name!r} in {location} has the impossible shape {shape[:64]}")
    return _Member(open_member, dtype, shape, fortran_order, start)


def open_npy(path: Path, location: str) -> Source:
    """One array; it goes by the name `tensor`."""
    source = NumpySource(location, "NumPy array (.npy)", path)
    source.add("tensor", partial(open, path, "rb"), ByteRange(path, 0, path.stat().st_size))
    return source


def open_npz(path: Path, location: str) -> Source:
    """An archive of arrays; a compressed one is read array by array."""
    archive = ZipDirectory(path)
    source = NumpySource(location, "NumPy archive (.npz)", path, archive)
    try:
        for member in archive.entries:
            if member.endswith(".npy"):
                source.add(member.removesuffix(".npy"), partial(archive.archive.open, member), _stored(archive, member))
        nbytes = sum(math.prod(member.shape) * member.dtype.itemsize for member in source.members.values())
        check_expansion(path, nbytes, factor=100)
    except BaseException:
        source.close()
        raise
    return source


def _stored(archive: ZipDirectory, member: str) -> ByteRange | None:
    info = archive.entries[member]
    if info.compress_type == zipfile.ZIP_STORED:
        return archive.byte_range(member)
    if info.compress_type != zipfile.ZIP_DEFLATED:
        raise InputError(f"the array {member!r} in {archive.path} is compressed in a way that NumPy never uses")
    return None
