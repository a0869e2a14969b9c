"""Opens a folder of torch.distributed.checkpoint (DCP): what FSDP, Lightning and accelerate write shard by shard.

Its `.metadata` is a pickle, and is read as every pickle here is: without running anything. It says which tensors there
are, and for each the parts of it (a box within its shape), and where in which `.distcp` file a part lies, as a small
file of torch.save's. A tensor in one part is copied from there; others are put together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError, listed
from zoo.file_name import name_mistake
from zoo.formats.dtypes import BITS, TORCH_DTYPES
from zoo.formats.entry import Entry, is_possible
from zoo.formats.pickle_reader import Global, OddKey, Record
from zoo.formats.pickled_tensors import FoundTensor, TensorRecord
from zoo.formats.source import ByteRange, Source, numpy_dtype
from zoo.formats.state_dicts import Candidate, choose, find_candidates
from zoo.formats.torch_file import TorchSource, read_archive, read_stream
from zoo.formats.zip_file import ZipDirectory

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Part:
    """A box within a tensor, from `start` on and of this `shape`, and the bytes of the file of torch.save's with it."""

    start: tuple[int, ...]
    shape: tuple[int, ...]
    file: ByteRange


@dataclass(eq=False)
class PartedTensor(FoundTensor):
    """A tensor that lies in parts."""

    dtype: str
    shape: tuple[int, ...]
    parts: tuple[Part, ...]


class DistributedSource(Source):
    """The tensors of one state dict in a DCP folder."""

    def __init__(self, folder: Path, location: str, chosen: Candidate) -> None:
        self.tensors = {name: tensor for name, tensor in chosen.tensors.items() if isinstance(tensor, PartedTensor)}
        where = f" under {chosen.name!r}" if chosen.path else ""
        entries = {name: Entry(name, tensor.dtype, tensor.shape) for name, tensor in self.tensors.items()}
        files = dict.fromkeys(part.file.path for tensor in self.tensors.values() for part in tensor.parts)
        kind = f"torch.distributed.checkpoint folder: {chosen.kind}{where}"
        super().__init__(location, kind, entries, {}, tuple(files))

    def byte_range(self, name: str) -> ByteRange | None:
        parts = self.tensors[name].parts
        return self._opened(name, parts[0]).byte_range("tensor") if len(parts) == 1 else None

    def array(self, name: str) -> np.ndarray[Any, Any]:
        import numpy as np

        tensor = self.tensors[name]
        whole = np.zeros(tensor.shape, numpy_dtype(self.entries[name]))
        filled = np.zeros(tensor.shape, bool)
        for part in tensor.parts:
            box = tuple(slice(start, start + size) for start, size in zip(part.start, part.shape, strict=True))
            whole[box] = self._opened(name, part).array("tensor")
            filled[box] = True
        if not filled.all():
            raise InputError(f"the parts of {name!r} in {self.location} overlap, and do not make all of it")
        return whole

    def _opened(self, name: str, part: Part) -> TorchSource:
        """The part's own small file; it contains one tensor, of the shape and type that the folder says."""
        with ZipDirectory(part.file.path, part.file) as archive:
            pickled = read_archive(archive)
        record = pickled.root
        if not isinstance(record, TensorRecord) or (record.dtype, record.shape) != (
            self.entries[name].dtype,
            part.shape,
        ):
            raise InputError(f"the part of {name!r} in {part.file.path} is not the tensor that .metadata says")
        return TorchSource(pickled, Candidate((), "tensor", {"tensor": record}), str(part.file.path))


def open_distributed(metadata: Path, location: str, key: str | None) -> Source:
    """The state dict in the folder whose `.metadata` this is. Raises InputError where the folder is damaged."""
    try:
        root = dict(_nested(read_stream(metadata).root, metadata.parent))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{metadata.parent} is a torch.distributed.checkpoint folder, and its {metadata.name} is damaged, or of a "
            f"version that zoo does not know: {error}"
        ) from error
    chosen, notes = choose(find_candidates(root), key, str(metadata.parent))
    source = DistributedSource(metadata.parent, location, chosen)
    source.notes += notes
    if chosen.others:
        source.notes.append(f"left out what is no tensor: {listed(chosen.others)}")
    return source


def _nested(described: Any, folder: Path) -> Iterator[tuple[str, Any]]:
    """The tables that were saved, as they were nested; what is no tensor is None."""
    state = _state(described, "Metadata")
    places = {_index(key): value for key, value in state["storage_data"].items()}
    paths = state.get("planner_data") or {}
    root: dict[str, Any] = {}
    for name, stored in state["state_dict_metadata"].items():
        path = paths.get(name, (name,))
        if not isinstance(name, str) or not isinstance(path, tuple) or not 0 < len(path) <= 64:
            raise ValueError(f"{str(name)[:100]!r} has no place")
        table = root
        for step in path[:-1]:
            table = table.setdefault(str(step), {})
            if not isinstance(table, dict):
                raise ValueError(f"{name[:100]!r} lies within a tensor")
        table[str(path[-1])] = _tensor(name, stored, places, folder)
    yield from root.items()


def _state(record: Any, kind: str) -> dict[str, Any]:
    """The fields of a record of one of torch.distributed's classes."""
    if not isinstance(record, Record) or record.made_by.name != kind or not isinstance(record.state, dict):
        raise ValueError(f"it has no {kind} where one should be")
    return record.state


def _index(key: Any) -> tuple[str, tuple[int, ...] | None]:
    index = _state(key.key if isinstance(key, OddKey) else key, "MetadataIndex")
    return index["fqn"], index.get("offset")


def _tensor(name: str, stored: Any, places: dict[Any, Any], folder: Path) -> PartedTensor | None:
    if not isinstance(stored, Record) or stored.made_by.name != "TensorStorageMetadata":
        return None
    state = _state(stored, "TensorStorageMetadata")
    dtype, shape = _dtype(state["properties"]), _counts(state["size"])
    if not is_possible(shape, dtype):
        raise ValueError(f"{name[:100]!r} has an impossible shape")
    parts = tuple(_part(name, chunk, dtype, places, folder) for chunk in state["chunks"])
    for part in parts:
        if len(part.shape) != len(shape) or any(
            a + b > c for a, b, c in zip(part.start, part.shape, shape, strict=True)
        ):
            raise ValueError(f"a part of {name[:100]!r} lies outside of it")
    if sum(math.prod(part.shape) for part in parts) != math.prod(shape):
        raise ValueError(f"the parts of {name[:100]!r} do not make all of it")
    return PartedTensor(dtype, shape, parts)


def _dtype(properties: Any) -> str:
    state = properties.state
    dtype = state["dtype"] if isinstance(state, dict) else state[0]
    known = {torch: name for name, torch in TORCH_DTYPES.items()}
    if not isinstance(dtype, Global) or dtype.name not in known:
        raise InputError(f"it contains a tensor of {dtype}, which safetensors files cannot contain")
    return known[dtype.name]


def _part(name: str, chunk: Any, dtype: str, places: dict[Any, Any], folder: Path) -> Part:
    box = _state(chunk, "ChunkStorageMetadata")
    start, shape = _counts(box["offsets"]), _counts(box["sizes"])
    place = _state(places.get((name, start)) or places[name, None], "_StorageInfo")
    file, offset, length = place["relative_path"], place["offset"], place["length"]
    if not isinstance(file, str) or name_mistake(file):
        raise InputError(
            f"{folder} names {str(file)[:200]!r} as the file of {name[:100]!r}; it must be a plain file name",
            suggestion="do not trust this checkpoint: such a name can reach files outside its folder",
        )
    if place.get("transform_descriptors"):
        raise InputError(f"{folder} is compressed, which zoo does not read", suggestion="save it without extensions")
    if _counts((offset, length)) and length < math.prod(shape) * BITS[dtype] // 8:
        raise ValueError(f"a part of {name[:100]!r} is shorter than its shape needs")
    path = folder / file
    if not path.is_file():
        raise InputError(f"the file {file!r} that {folder} names is missing")
    if path.stat().st_size < offset + length:
        raise InputError(f"{path} is cut short: {name[:100]!r} should lie at byte {offset:,}")
    return Part(start, shape, ByteRange(path, offset, length))


def _counts(value: Any) -> tuple[int, ...]:
    if not isinstance(value, tuple) or len(value) > 64 or not all(type(n) is int and 0 <= n < 2**63 for n in value):
        raise ValueError("sizes in it are no counts")
    return value
