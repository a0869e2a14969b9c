"""Opens .pth, .pt, .bin and .ckpt files: what torch.save wrote, without torch and without running anything.

Both containers are read as records and byte ranges: the zip format, and the older stream format. `open_trusted`, for
`trust_pickle` alone, is the one place in zoo that runs a pickle.
"""

from __future__ import annotations

import io
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from zoo.errors import InputError, listed
from zoo.formats.dtypes import BITS, STORAGE_BYTES
from zoo.formats.entry import Entry
from zoo.formats.pickle_reader import (
    Global,
    PickleMachine,
    Record,
    StorageRecord,
    TensorRecord,
    is_allowed,
    resolve,
    storage,
)
from zoo.formats.source import ByteRange, Source, check_expansion, numpy_dtype
from zoo.formats.state_dicts import Candidate, choose, find_candidates, pickled_models
from zoo.formats.zip_file import ZipDirectory

if TYPE_CHECKING:
    import numpy as np


log = logging.getLogger("zoo")

MAX_PICKLE_BYTES = 100_000_000
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
PLAIN = "plain pickle (torch.save did not write it)"


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
    """The pickles at the head of a file that may be long: reads are bounded, whatever lengths the pickle states."""

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
            if record.storage_class not in STORAGE_BYTES:
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
    needed = record.numel * STORAGE_BYTES[record.storage_class]
    if span.nbytes < needed:
        raise archive.damaged(f"{name!r} contains {span.nbytes:,} bytes where its tensors need {needed:,}")
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
    """The next storage in a stream: 8 bytes of length in elements, then the elements; `file` then stands after it."""
    numel = int.from_bytes(file.read(8), "little")
    if not isinstance(key, str) or key not in found or numel < found[key].numel:
        raise InputError(f"{path} is damaged, or was cut short: its storages do not fit its tensors")
    span = ByteRange(path, file.tell(), numel * STORAGE_BYTES[found[key].storage_class])
    if span.offset + span.nbytes > os.fstat(file.fileno()).st_size:
        raise InputError(f"{path} was cut short: the data of storage {key!r} are not all there")
    file.seek(span.nbytes, io.SEEK_CUR)
    return span


class UnsafePickleError(InputError):
    """Opening the file would run code that the file chooses: what it is, and the classes it names."""

    kind = "pickle of unknown objects"
    classes: tuple[str, ...] = ()


class TorchSource(Source):
    """The tensors of one candidate of a pickled file; views that are not contiguous are gathered when read."""

    def __init__(self, pickled: Pickled, chosen: Candidate, location: str) -> None:
        where = f" under {chosen.name!r}" if chosen.path else ""
        entries = {name: Entry(name, record.dtype, record.shape) for name, record in chosen.tensors.items()}
        super().__init__(location, f"{pickled.kind}: {chosen.kind}{where}", entries, {}, (pickled.path,))
        self.pickled = pickled
        self.records = chosen.tensors
        self.aliases = _aliases(chosen.tensors)
        self.spans = {name: self._span(record) for name, record in chosen.tensors.items()}
        if not pickled.big_endian:
            self.ranges = {name: span for name, span in self.spans.items() if self.records[name].is_contiguous}
        check_expansion(
            pickled.path, sum(e.nbytes for name, e in entries.items() if name not in self.aliases), factor=4
        )

    def _span(self, record: TensorRecord) -> ByteRange:
        """The bytes from the tensor's first element to its last."""
        data, item = self.pickled.storages[record.storage.key], BITS[record.dtype] // 8
        start, nbytes = (record.storage.start + record.offset) * item, record.span * item
        if start + nbytes > data.nbytes:
            raise InputError(f"{data.path} is damaged: a tensor reaches beyond the storage {record.storage.key!r}")
        return ByteRange(data.path, data.offset + start, nbytes)

    def array(self, name: str) -> np.ndarray[Any, Any]:
        if name in self.ranges:
            return super().array(name)
        import numpy as np

        record, span = self.records[name], self.spans[name]
        dtype = np.dtype(numpy_dtype(self.entries[name]))
        stored = dtype.newbyteorder(">") if self.pickled.big_endian else dtype
        if not record.elements:
            return np.empty(record.shape, dtype)
        flat = np.memmap(span.path, stored, "r", span.offset, (record.span,))
        steps = [step * stored.itemsize for step in record.stride]
        return np.array(np.lib.stride_tricks.as_strided(flat, record.shape, steps, writeable=False), dtype, order="C")


def _aliases(records: dict[str, TensorRecord]) -> dict[str, str]:
    """Name -> the first name with the same storage, offset, shape and strides."""
    first: dict[Any, str] = {}
    aliases: dict[str, str] = {}
    for name, record in records.items():
        if record.elements:
            place = (record.storage.key, record.storage.start + record.offset)
            canonical = first.setdefault((*place, record.dtype, record.shape, record.stride), name)
            if canonical != name:
                aliases[name] = canonical
    return aliases


def read_pickled(path: Path) -> Pickled:
    """The records of a file that torch.save wrote, in either of its formats, or of another pickle."""
    with open(path, "rb") as file:
        return read_zip(path) if file.read(4) == b"PK\x03\x04" else read_stream(path)


def open_torch(path: Path, location: str, key: str | None = None) -> Source:
    """The state dict (or tensors) in a file of torch.save. Raises InputError where opening it would run code."""
    pickled = read_pickled(path)
    if pickled.refused:
        raise refusal(pickled)
    candidates = find_candidates(pickled.root)
    if not candidates and pickled.kind == PLAIN:
        raise InputError(f"{path} is a {PLAIN}; it contains no tensors that can be read without running it")
    if not candidates and isinstance(pickled.root, dict):
        _refuse_unsupported(pickled.root, path)
    chosen, notes = choose(candidates, key, str(path))
    _refuse_unsupported(chosen.others, path)
    source = TorchSource(pickled, chosen, location)
    source.notes += notes
    if isinstance(pickled.root, dict) and "pytorch-lightning_version" in pickled.root:
        source.kind += " (Lightning checkpoint)"
    if chosen.others:
        others = listed(f"{name} ({_type_name(value)})" for name, value in chosen.others.items())
        source.notes.append(f"left out what is no tensor: {others}")
    return source


def _refuse_unsupported(values: Mapping[str, Any], path: Path) -> None:
    kinds = {"_rebuild_qtensor": "quantized", "_rebuild_sparse_tensor": "sparse", "_rebuild_nested_tensor": "nested",
             "_rebuild_meta_tensor_no_storage": "meta (it has no data)"}  # fmt: skip
    for name, value in values.items():
        if isinstance(value, Record) and value.made_by.name in kinds:
            raise InputError(
                f"tensor {name!r} in {path} is {kinds[value.made_by.name]}, which safetensors files cannot contain",
                suggestion="save it dense and dequantized (.to_dense(), .dequantize()) and try again",
            )


def _type_name(value: Any) -> str:
    return str(value.made_by) if isinstance(value, Record) else type(value).__name__


def refusal(pickled: Pickled) -> UnsafePickleError:
    """Why the file is not opened: what it is, which classes it would call, what to do instead."""
    names = [str(named) for named in pickled.refused]
    models = pickled_models(pickled.root)
    if models:
        what = f"contains a pickled model ({models[0].made_by}) instead of a state dict"
        advice = "where the model's code is installed, torch.save(model.state_dict(), 'weights.pth') and convert that"
    else:
        what = "contains objects that are neither tensors nor plain data"
        advice = "save the tensors alone, like torch.save(checkpoint['state_dict'], 'weights.pth')"
    error = UnsafePickleError(
        f"{pickled.path} {what}. Opening it would run code that the file chooses; it names: {listed(names)}",
        suggestion=f"{advice}. Only if you trust whoever made the file: --trust-pickle runs that code with your rights",
    )
    error.kind = f"pickled model ({models[0].made_by})" if models else f"{pickled.kind}: {error.kind}"
    error.classes = tuple(names)
    return error


class _TemporarySource(Source):
    """The tensors of a pickle that was run, kept in a temporary file of torch.save until `close`."""

    def __init__(self, inner: Source, original: Path) -> None:
        self.__dict__.update(inner.__dict__)
        self.inner = inner
        self.temporary, self.files = inner.files, (original,)

    def array(self, name: str) -> Any:
        return self.inner.array(name)

    def close(self) -> None:
        self.inner.close()  # Windows removes no open file
        for path in self.temporary:
            path.unlink(missing_ok=True)


def open_trusted(path: Path, location: str, key: str | None) -> Source:
    """Unpickle `path` with torch, RUNNING THE CODE IT NAMES, and open the tensors found in what comes out."""
    import torch

    log.warning("running the code that %s contains, with your rights, because you trust it (--trust-pickle)", path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise InputError(
            f"cannot unpickle {path}: {type(error).__name__}: {error}",
            suggestion="the classes it was saved with must be importable here, in the versions it was saved with",
        ) from error
    handle, name = tempfile.mkstemp(suffix=".pth")
    os.close(handle)
    temporary = Path(name)
    try:
        torch.save(_tensors_only(content), temporary)
        source = _TemporarySource(open_torch(temporary, location, key), path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    source.kind += ", from a pickle that was run"
    source.notes.append(f"ran the code that {path} contains, as trust_pickle asked for")
    return source


def _tensors_only(value: Any) -> Any:
    """The tensors in `value`, in plain containers: a module becomes its state dict, what is neither is left out."""
    import torch

    if isinstance(value, torch.nn.Module):
        return value.state_dict()
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, dict):
        return {name: _tensors_only(item) for name, item in value.items() if isinstance(name, str)}
    if isinstance(value, list | tuple):
        return [_tensors_only(item) for item in value]
    return None
