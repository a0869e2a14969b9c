"""Opens .pth, .pt, .bin and .ckpt files: what torch.save wrote, without torch and without running anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.checkpoint.header import BITS, Entry
from zoo.checkpoint.sources.contents import Candidate, choose, find_candidates, whole_models
from zoo.checkpoint.sources.pickle_globals import TensorRecord
from zoo.checkpoint.sources.pickle_machine import Record
from zoo.checkpoint.sources.pickled import PLAIN, Pickled, read_stream, read_zip
from zoo.checkpoint.sources.source import ByteRange, Source, numpy_dtype
from zoo.errors import InputError

if TYPE_CHECKING:
    import numpy as np

EXPANSION_LIMIT = 1 << 30


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
        self._check_expansion()

    def _span(self, record: TensorRecord) -> ByteRange:
        """The bytes from the tensor's first element to its last."""
        data, item = self.pickled.storages[record.storage.key], BITS[record.dtype] // 8
        start, nbytes = (record.storage.start + record.offset) * item, record.span * item
        if start + nbytes > data.nbytes:
            raise InputError(f"{data.path} is damaged: a tensor reaches beyond the storage {record.storage.key!r}")
        return ByteRange(data.path, data.offset + start, nbytes)

    def _check_expansion(self) -> None:
        """Views may repeat a few bytes without end: a small file must not become a huge one."""
        size = self.pickled.path.stat().st_size
        total = sum(entry.nbytes for name, entry in self.entries.items() if name not in self.aliases)
        if total > max(4 * size, EXPANSION_LIMIT):
            raise InputError(
                f"{self.pickled.path} is {size:,} bytes long, but its tensors are views that would fill {total:,}: "
                "it looks like a bomb and is refused"
            )

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
        raise InputError(f"{path} is a {PLAIN}; it holds no tensors that can be read without running it")
    if not candidates and isinstance(pickled.root, dict):
        _refuse_unsupported(pickled.root, path)
    chosen, notes = choose(candidates, key, str(path))
    _refuse_unsupported(chosen.others, path)
    source = TorchSource(pickled, chosen, location)
    source.notes += notes
    if isinstance(pickled.root, dict) and "pytorch-lightning_version" in pickled.root:
        source.kind += " (Lightning checkpoint)"
    if chosen.others:
        rows = [f"{name} ({_type_name(value)})" for name, value in list(chosen.others.items())[:5]]
        more = f" and {len(chosen.others) - 5} more" if len(chosen.others) > 5 else ""
        source.notes.append(f"left out what is no tensor: {', '.join(rows)}{more}")
    return source


def _refuse_unsupported(values: Mapping[str, Any], path: Path) -> None:
    kinds = {"_rebuild_qtensor": "quantized", "_rebuild_sparse_tensor": "sparse", "_rebuild_nested_tensor": "nested",
             "_rebuild_meta_tensor_no_storage": "meta (it has no data)"}  # fmt: skip
    for name, value in values.items():
        if isinstance(value, Record) and value.made_by.name in kinds:
            raise InputError(
                f"tensor {name!r} in {path} is {kinds[value.made_by.name]}, which safetensors files cannot hold",
                suggestion="save it dense and dequantized (.to_dense(), .dequantize()) and try again",
            )


def _type_name(value: Any) -> str:
    return str(value.made_by) if isinstance(value, Record) else type(value).__name__


def refusal(pickled: Pickled) -> UnsafePickleError:
    """Why the file is not opened: what it is, which classes it would call, what to do instead."""
    names = [str(named) for named in pickled.refused]
    classes = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    models = whole_models(pickled.root)
    if models:
        what = f"holds a whole pickled model ({models[0].made_by}) instead of a state dict"
        advice = "where the model's code is installed, torch.save(model.state_dict(), 'weights.pth') and convert that"
    else:
        what = "holds objects that are neither tensors nor plain data"
        advice = "save the tensors alone, like torch.save(checkpoint['state_dict'], 'weights.pth')"
    error = UnsafePickleError(
        f"{pickled.path} {what}. Opening it would run code that the file chooses; it names: {classes}",
        suggestion=f"{advice}. Only if you trust whoever made the file: --trust-pickle runs that code with your rights",
    )
    error.kind = f"whole pickled model ({models[0].made_by})" if models else f"{pickled.kind}: {error.kind}"
    error.classes = tuple(names)
    return error
