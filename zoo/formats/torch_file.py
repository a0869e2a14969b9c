"""Opens .pth, .pt, .bin, .ckpt and .pkl files: what torch.save or pickle wrote, without running anything.

Both of torch's containers are read as records and byte ranges: the zip format, and the older stream format.
`trusted_pickle`, for `trust_pickle` alone, is the one place in zoo that runs a pickle.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from zoo.errors import InputError, listed
from zoo.formats.dtypes import BITS, STORAGE_BYTES
from zoo.formats.entry import Entry
from zoo.formats.pickle_reader import Budget, Data, Global, PickleMachine, Record
from zoo.formats.pickled_tensors import (
    FoundTensor,
    StorageRecord,
    TensorRecord,
    Unstorable,
    as_tensor,
    is_allowed,
    is_harmful,
    resolve,
    storage,
)
from zoo.formats.source import ByteRange, Source, check_expansion, numpy_dtype
from zoo.formats.state_dicts import PREFERENCE, Candidate, choose, find_candidates, pickled_models, what_else
from zoo.formats.zip_file import ZipDirectory

if TYPE_CHECKING:
    import numpy as np


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
    """The pickles at the head of a file that may be long: what is read is bounded, whatever lengths a pickle states;
    what is skipped is not counted."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.tell, self.seek, self.left = file, file.tell, file.seek, MAX_PICKLE_BYTES

    def read(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            raise ValueError(f"it is larger than {MAX_PICKLE_BYTES:,} bytes, arrays aside")
        return self.file.read(size)

    def readline(self) -> bytes:
        return self.file.readline(1 << 16)


@dataclass
class _Reading:
    """The pickles of one file: what they name, the storages they refer to, and how much may still be read."""

    path: Path
    named: dict[Global, None] = field(default_factory=dict)
    storages: dict[str, StorageRecord] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    inside: int = 0

    def run(self, file: Any, base: int = 0, *, nested: bool = False) -> Any:
        """The object of one pickle; `file`, which begins `base` bytes into that at `path`, then stands behind it."""
        resolving = resolve if nested else lambda *call: self._resolve(file, base, *call)
        machine = PickleMachine(file, resolving, self._persistent, base=base, budget=self.budget)
        try:
            root = machine.run()
        except InputError as error:
            joblib = any(named.module.startswith("joblib") for named in machine.globals)
            hint = "joblib wrote it: joblib.load it where you trust it, and torch.save the arrays" if joblib else None
            raise InputError(f"cannot read {self.path}: {error}", suggestion=hint) from error
        self.named |= machine.globals
        return root

    def _persistent(self, identifier: Any) -> Any:
        record = storage(identifier)
        if isinstance(record, StorageRecord):
            if record.storage_class not in STORAGE_BYTES:
                raise ValueError(f"the storage class {record.storage_class!r} is unknown")
            self.storages[record.key] = record
        return record

    def _resolve(self, file: Any, base: int, function: Global, arguments: tuple[Any, ...]) -> Any:
        if function == Global("torch.storage", "_load_from_bytes"):
            return self._storage_within(file, base, arguments[0])
        return resolve(function, arguments)

    def _storage_within(self, file: Any, base: int, content: Any) -> StorageRecord:
        """The storage of a tensor that was pickled by itself: a complete small file of torch inside the pickle."""
        if isinstance(content, bytes):
            inner, start = io.BytesIO(content), 0
        elif isinstance(content, Data) and not content.latin1:
            inner, start = file, file.tell()
            file.seek(content.offset - base)
        else:
            raise ValueError("the bytes of a storage are spelled as text; pickle it with protocol 4")
        kept, self.storages = self.storages, {}
        head = [self.run(inner, nested=True) for _ in range(5)]
        store, self.storages = head[3], kept
        numel = int.from_bytes(inner.read(8), "little")
        if head[0] != LEGACY_MAGIC or not isinstance(store, StorageRecord) or numel < store.numel:
            raise ValueError("a storage in it is none that torch wrote")
        nbytes, place = numel * STORAGE_BYTES[store.storage_class], inner.tell()
        if isinstance(content, bytes):
            data: Data | bytes = content[place : place + nbytes]
        else:
            data = Data(base + place, nbytes)
            file.seek(start)
        self.inside += 1
        return replace(store, key=f"inside {self.inside}", data=data)

    @property
    def refused(self) -> list[Global]:
        return [named for named in self.named if not is_allowed(named)]


def read_zip(path: Path) -> Pickled:
    """A file of torch.save's zip format (torch 1.6 and later)."""
    with ZipDirectory(path) as archive:
        return read_archive(archive)


def read_archive(archive: ZipDirectory) -> Pickled:
    """What torch.save wrote into an opened zip file."""
    prefix, reading = _prefix(archive), _Reading(archive.path)
    span = archive.byte_range(f"{prefix}data.pkl")
    if span.nbytes <= MAX_PICKLE_BYTES:
        root = reading.run(io.BytesIO(archive.read(f"{prefix}data.pkl", MAX_PICKLE_BYTES)), span.offset)
    else:  # NumPy arrays lie inside the pickle
        archive.file.seek(span.offset)
        root = reading.run(_Guarded(archive.file))
    order = f"{prefix}byteorder"
    big_endian = order in archive.entries and archive.read(order, 16).strip() == b"big"
    storages = {key: _record(archive, prefix, record) for key, record in reading.storages.items()}
    return Pickled(archive.path, "PyTorch file (zip format)", root, reading.refused, storages, big_endian)


def _prefix(archive: ZipDirectory) -> str:
    """The folder that torch.save put everything in, with its slash; InputError where this is another kind of zip."""
    roots = [name[: -len("data.pkl")] for name in archive.entries if name.split("/")[1:] == ["data.pkl"]]
    roots += [""] * ("data.pkl" in archive.entries)
    if len(roots) != 1:
        raise InputError(f"{archive.path} is a zip file, but none that torch.save wrote: it has no single data.pkl")
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
        guarded, reading = _Guarded(file), _Reading(path)
        first = reading.run(guarded)
        if first != LEGACY_MAGIC:
            return Pickled(path, PLAIN, first, reading.refused, {})
        protocol, system = reading.run(guarded), reading.run(guarded)
        if protocol != LEGACY_PROTOCOL or not isinstance(system, dict):
            raise InputError(f"{path} is damaged: the head of its old PyTorch format is wrong")
        root, keys, found = reading.run(guarded), reading.run(guarded), reading.storages
        storages = {key: _next_storage(file, path, key, found) for key in keys} if isinstance(keys, list) else {}
    if missing := found.keys() - storages.keys():
        raise InputError(f"{path} is damaged: it lacks the data of {len(missing)} storages")
    big_endian = system.get("little_endian") is False
    return Pickled(path, "PyTorch file (format before torch 1.6)", root, reading.refused, storages, big_endian)


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
    """The tensors of one candidate of a pickled file; views that are not contiguous are gathered when read, and so
    are arrays whose bytes a pickle spells in another way."""

    def __init__(self, pickled: Pickled, chosen: Candidate, location: str) -> None:
        where = f" under {chosen.name!r}" if chosen.path else ""
        entries = {name: Entry(name, record.dtype, record.shape) for name, record in chosen.tensors.items()}
        super().__init__(location, f"{pickled.kind}: {chosen.kind}{where}", entries, {}, (pickled.path,))
        self.pickled = pickled
        self.records = {name: record for name, record in chosen.tensors.items() if isinstance(record, TensorRecord)}
        self.aliases = _aliases(self.records)
        spans = {name: self._span(record) for name, record in self.records.items()}
        self.spans = {name: span for name, span in spans.items() if span is not None}
        self.ranges = {
            name: span
            for name, span in self.spans.items()
            if self.records[name].is_contiguous and not self._is_big_endian(self.records[name])
        }
        check_expansion(
            pickled.path, sum(e.nbytes for name, e in entries.items() if name not in self.aliases), factor=4
        )

    def _is_big_endian(self, record: TensorRecord) -> bool:
        return record.big_endian if record.storage.data is not None else self.pickled.big_endian

    def _span(self, record: TensorRecord) -> ByteRange | None:
        """The bytes from the tensor's first element to its last; None where they are not in the file as such."""
        content, item = record.storage.data, BITS[record.dtype] // 8
        if isinstance(content, bytes) or (isinstance(content, Data) and content.latin1):
            return None
        if content is None:
            data = self.pickled.storages[record.storage.key]
        else:
            data = ByteRange(self.pickled.path, content.offset, content.nbytes)
            if content.offset + content.nbytes > self.pickled.path.stat().st_size:
                raise InputError(f"{data.path} was cut short: the bytes of an array are not all there")
        start, nbytes = (record.storage.start + record.offset) * item, record.span * item
        if start + nbytes > data.nbytes:
            raise InputError(f"{data.path} is damaged: a tensor reaches beyond the storage {record.storage.key!r}")
        return ByteRange(data.path, data.offset + start, nbytes)

    def array(self, name: str) -> np.ndarray[Any, Any]:
        if name in self.ranges:
            return super().array(name)
        import numpy as np

        record = self.records[name]
        dtype = np.dtype(numpy_dtype(self.entries[name]))
        stored = dtype.newbyteorder(">") if self._is_big_endian(record) else dtype
        if not record.elements:
            return np.empty(record.shape, dtype)
        flat: np.ndarray[Any, Any]
        if (span := self.spans.get(name)) is not None:
            flat = np.memmap(span.path, stored, "r", span.offset, (record.span,))
        else:
            flat = np.frombuffer(self._spelled(name, record), stored)[record.storage.start + record.offset :]
        steps = [step * stored.itemsize for step in record.stride]
        return np.array(np.lib.stride_tricks.as_strided(flat, record.shape, steps, writeable=False), dtype, order="C")

    def _spelled(self, name: str, record: TensorRecord) -> bytes:
        """The bytes of a storage that the pickle spells in its own way, as many as it says."""
        content, item = record.storage.data, BITS[record.dtype] // 8
        if isinstance(content, Data):
            with open(self.pickled.path, "rb") as file:
                file.seek(content.offset)
                try:
                    content = file.read(content.nbytes).decode("utf-8", "surrogatepass").encode("latin-1")
                except UnicodeError as error:
                    raise InputError(f"the array {name!r} in {self.pickled.path} is damaged: {error}") from error
        assert isinstance(content, bytes)
        needed = (record.storage.start + record.offset + record.span) * item
        if len(content) < needed or len(content) % item:
            raise InputError(f"the array {name!r} in {self.pickled.path} has {len(content):,} of its {needed:,} bytes")
        return content


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
    """The state dict (or tensors) in a file of torch.save or pickle, without what else is in it.

    Raises InputError where only running the file's code would give the weights, and where it wants to do harm.
    """
    pickled = read_pickled(path)
    if any(map(is_harmful, pickled.refused)) or _hides_weights(pickled):
        raise refusal(pickled)
    try:
        candidates = find_candidates(pickled.root)
    except InputError as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if not candidates:
        raise _no_tensors(pickled)
    chosen, notes = choose(candidates, key, str(path))
    _refuse_unstorable(chosen.others, path)
    source = TorchSource(pickled, chosen, location)
    source.notes += [*notes, *_left_out(pickled, chosen)]
    if isinstance(pickled.root, dict) and "pytorch-lightning_version" in pickled.root:
        source.kind += " (Lightning checkpoint)"
    return source


def _hides_weights(pickled: Pickled) -> bool:
    """Whether the weights, or what is where weights belong, are objects that only running code would make."""
    if not pickled.refused:
        return False
    root = pickled.root if isinstance(pickled.root, dict) else {}
    opaque = [value for value in map(root.get, PREFERENCE) if isinstance(value, Record) and not value.items]
    return bool(pickled_models(pickled.root)) or any(as_tensor(value) is value for value in opaque)


def _no_tensors(pickled: Pickled) -> InputError:
    path, root = pickled.path, pickled.root
    if isinstance(root, dict):
        _refuse_unstorable(root, path)
    if what := what_else(root):
        return InputError(f"{path} contains {what} and no weights", suggestion="the weights are in a file beside it")
    if pickled.refused:
        return refusal(pickled)
    if pickled.kind == PLAIN:
        return InputError(f"{path} is a {PLAIN}; it contains no tensors")
    return InputError(f"{path} contains no tensors")


def _left_out(pickled: Pickled, chosen: Candidate) -> list[str]:
    """What of the file is not in the source: beside the tensors, and objects that were not made."""
    notes = []
    if chosen.unnamed:
        notes.append(f"left out {chosen.unnamed:,} tensors whose keys are neither text nor whole numbers")
    if chosen.others:
        others = listed(f"{name} ({_type_name(value)})" for name, value in chosen.others.items())
        notes.append(f"left out what is no tensor: {others}")
    if pickled.refused:
        names = listed(map(str, pickled.refused))
        notes.append(f"left out objects beside the weights, and ran nothing of what makes them: {names}")
    return notes


def _refuse_unstorable(values: Mapping[str, Any], path: Path) -> None:
    for name, value in values.items():
        within = value if isinstance(value, list | tuple) else [value]
        for item in within:
            if isinstance(item, Unstorable) and not item.why.startswith("a NumPy array"):
                raise InputError(
                    f"tensor {name!r} in {path} is {item.why}, which safetensors files cannot contain",
                    suggestion="save it dense and dequantized (.to_dense(), .dequantize()) and try again",
                )


def _type_name(value: Any) -> str:
    if isinstance(value, Record):
        return str(value.made_by)
    if isinstance(value, FoundTensor):
        return "the state of a random generator"
    return value.why if isinstance(value, Unstorable) else type(value).__name__


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
