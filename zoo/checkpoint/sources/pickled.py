"""Reads what torch.save wrote, in its zip format and in the older stream format, as records and byte ranges."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from zoo.checkpoint.sources.pickle_globals import StorageRecord, is_allowed, resolve, storage
from zoo.checkpoint.sources.pickle_machine import Global, PickleMachine
from zoo.checkpoint.sources.source import ByteRange
from zoo.checkpoint.sources.zip_directory import ZipDirectory
from zoo.errors import InputError

MAX_PICKLE_BYTES = 100_000_000
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
PLAIN = "plain pickle (torch.save did not write it)"
ITEM_BYTES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1, "ComplexFloatStorage": 8,
    "ComplexDoubleStorage": 16, "UntypedStorage": 1, "QInt8Storage": 1, "QUInt8Storage": 1, "QInt32Storage": 4,
    "QUInt4x2Storage": 1, "QUInt2x4Storage": 1,
}  # fmt: skip


@dataclass
class Pickled:
    """A pickled file, read without running it.

    `root` is the object, made of records and plain containers; `refused` are the names outside the allow-list, which
    only running code could turn into objects; `storages` says where each storage's bytes lie.
    """

    path: Path
    kind: str
    root: Any
    refused: list[Global]
    storages: dict[str, ByteRange]
    big_endian: bool = False


class _Guarded:
    """The pickles at the head of a file that may be long: reads are bounded, whatever lengths the pickle claims."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.tell = file, file.tell

    def read(self, size: int) -> bytes:
        if size > MAX_PICKLE_BYTES or self.tell() > MAX_PICKLE_BYTES:
            raise ValueError(f"it is larger than {MAX_PICKLE_BYTES:,} bytes")
        return self.file.read(size)

    def readline(self) -> bytes:
        return self.file.readline(1 << 16)


def _run(file: Any, path: Path) -> tuple[Any, list[Global], dict[str, StorageRecord]]:
    """The object of one pickle, the refused names, and the storages it refers to by key."""
    found: dict[str, StorageRecord] = {}

    def persistent(identifier: Any) -> Any:
        record = storage(identifier)
        if isinstance(record, StorageRecord):
            if record.storage_class not in ITEM_BYTES:
                raise ValueError(f"the storage class {record.storage_class!r} is unknown")
            found[record.key] = record
        return record

    machine = PickleMachine(file, resolve, persistent)
    try:
        root = machine.run()
    except InputError as error:
        raise InputError(f"cannot read {path}: {error}") from error
    return root, [named for named in machine.globals if not is_allowed(named)], found


def read_zip(path: Path) -> Pickled:
    """A file of torch.save's zip format (torch 1.6 and later)."""
    with ZipDirectory(path) as archive:
        prefix = _prefix(archive)
        pickled = archive.read(f"{prefix}data.pkl", MAX_PICKLE_BYTES)
        root, refused, found = _run(io.BytesIO(pickled), path)
        order = f"{prefix}byteorder"
        big_endian = order in archive.entries and archive.read(order, 16).strip() == b"big"
        storages = {key: _record(archive, prefix, record) for key, record in found.items()}
    return Pickled(path, "PyTorch file (zip format)", root, refused, storages, big_endian)


def _prefix(archive: ZipDirectory) -> str:
    """The folder that torch.save put everything in, with its slash; InputError where this is another kind of zip."""
    roots = [name[: -len("data.pkl")] for name in archive.entries if name.split("/")[1:] == ["data.pkl"]]
    roots += [""] * ("data.pkl" in archive.entries)
    if len(roots) != 1:
        raise InputError(f"{archive.path} is a zip file, but none that torch.save wrote: it has no single data.pkl")
    if f"{roots[0]}constants.pkl" in archive.entries:
        raise InputError(
            f"{archive.path} is a TorchScript archive: a program with its weights, which only torch.jit.load reads",
            suggestion="torch.save(torch.jit.load(FILE, map_location='cpu').state_dict(), 'weights.pth')",
        )
    return roots[0]


def _record(archive: ZipDirectory, prefix: str, record: StorageRecord) -> ByteRange:
    name = f"{prefix}data/{record.key}"
    if name not in archive.entries:
        raise archive.damaged(f"the tensor data {name!r} is missing")
    span = archive.byte_range(name)
    needed = record.numel * ITEM_BYTES[record.storage_class]
    if span.nbytes < needed:
        raise archive.damaged(f"{name!r} holds {span.nbytes:,} bytes where its tensors need {needed:,}")
    return span


def read_stream(path: Path) -> Pickled:
    """A file of the stream format (before torch 1.6): four pickles, a list of keys, then the storages.

    Any other pickle is read too, so that it can be said what it is: its kind is `PLAIN`.
    """
    with open(path, "rb") as file:
        guarded = _Guarded(file)
        first, refused, _ = _run(guarded, path)
        if first != LEGACY_MAGIC:
            return Pickled(path, PLAIN, first, refused, {})
        protocol, system = _run(guarded, path)[0], _run(guarded, path)[0]
        if protocol != LEGACY_PROTOCOL or not isinstance(system, dict):
            raise InputError(f"{path} is damaged: the head of its old PyTorch format is wrong")
        root, refused, found = _run(guarded, path)
        keys = _run(guarded, path)[0]
        storages = {key: _next_storage(file, path, key, found) for key in keys} if isinstance(keys, list) else {}
    if missing := found.keys() - storages.keys():
        raise InputError(f"{path} is damaged: it lacks the data of {len(missing)} storages")
    big_endian = system.get("little_endian") is False
    return Pickled(path, "PyTorch file (format before torch 1.6)", root, refused, storages, big_endian)


def _next_storage(file: BinaryIO, path: Path, key: Any, found: dict[str, StorageRecord]) -> ByteRange:
    """The next storage in a stream: 8 bytes of length in elements, then the elements; `file` is left behind it."""
    numel = int.from_bytes(file.read(8), "little")
    if not isinstance(key, str) or key not in found or numel < found[key].numel:
        raise InputError(f"{path} is damaged, or was cut short: its storages do not fit its tensors")
    span = ByteRange(path, file.tell(), numel * ITEM_BYTES[found[key].storage_class])
    if span.offset + span.nbytes > os.fstat(file.fileno()).st_size:
        raise InputError(f"{path} was cut short: the data of storage {key!r} are not all there")
    file.seek(span.nbytes, io.SEEK_CUR)
    return span
