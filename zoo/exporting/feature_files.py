"""Files of features, written a batch at a time: safetensors, npz and parquet, with paths, parts and labels."""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zoo.errors import InputError
from zoo.exporting.formats import need
from zoo.formats.entry import Entry
from zoo.formats.files import WriteBehind, atomic_file
from zoo.formats.safetensors_file import encode_header, layout

SUFFIXES = (".safetensors", ".npz", ".parquet")
MOST_HEADER = 90_000_000  # bytes; safetensors' readers refuse headers of more than 100 MB
GROUP = 1 << 25  # bytes of features in a group of rows of a parquet file

Array = NDArray[Any]


@dataclass(frozen=True)
class Samples:
    """What is known of the samples before the network has run: `names` (paths or indices), `parts`, and `about`, which
    the file says of itself."""

    names: Sequence[str]
    parts: Sequence[str]
    about: Mapping[str, Any]


class Writer(Protocol):
    """Takes features float32 [b, …] and targets [b, …] of the next samples, in order."""

    def __call__(self, features: Array, targets: Array) -> None: ...


def check_format(path: Path) -> None:
    """Raises InputError for a file of another format, and where what writes it is not installed."""
    if path.suffix not in SUFFIXES:
        hints = ", ".join(str(path.with_suffix(suffix)) for suffix in SUFFIXES)
        raise InputError(f"{path}: features are written as safetensors, npz or parquet", suggestion=f"one of {hints}")
    if path.suffix == ".parquet":
        need("pyarrow", "parquet")


@contextmanager
def feature_writer(path: Path, samples: Samples, features: Array, targets: Array) -> Iterator[Writer]:
    """What writes the file, which is at `path` once the block has ended, complete or not at all.

    `features` and `targets` are of one sample: their shapes and types are those of all.
    """
    with atomic_file(path) as descriptor:
        kind = {".safetensors": _safetensors, ".npz": _npz, ".parquet": _parquet}[path.suffix]
        with kind(descriptor, samples, features, targets) as put:
            yield put


@contextmanager
def _safetensors(descriptor: int, samples: Samples, features: Array, targets: Array) -> Iterator[Writer]:
    """`features` and `targets` as tensors; names, parts and what is known in the metadata, each as JSON."""
    count = len(samples.names)
    kinds = {"float32": "F32", "int64": "I64"}
    placed = layout(
        Entry(name, kinds[str(one.dtype)], (count, *one.shape))
        for name, one in (("features", features), ("targets", targets))
    )
    told = {"images": list(samples.names), "parts": list(samples.parts), **samples.about}
    header = encode_header(placed, {key: json.dumps(value) for key, value in told.items()})
    if len(header) > MOST_HEADER:
        message = f"the names of {count:,} images do not fit into a safetensors header"
        raise InputError(message, suggestion="name a .parquet or .npz file")
    file, places = WriteBehind(descriptor), {entry.name: len(header) + entry.offset for entry in placed}
    file.write(header, 0)

    def put(features: Array, targets: Array) -> None:
        for name, values in (("features", features), ("targets", targets)):
            data = _bytes(values)
            file.write(data, places[name])
            places[name] += len(data)

    yield put


def _bytes(values: Array) -> memoryview:
    """An array's values in C order."""
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


@contextmanager
def _npz(descriptor: int, samples: Samples, features: Array, targets: Array) -> Iterator[Writer]:
    """`features`, `targets`, `images`, `parts` and, as JSON in a text, `about`: `np.load(FILE)["features"]`."""
    kept: list[Array] = []
    with os.fdopen(os.dup(descriptor), "w+b") as file, zipfile.ZipFile(file, "w", allowZip64=True) as archive:
        with archive.open("features.npy", "w", force_zip64=True) as member:
            shape = (len(samples.names), *features.shape)
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_2_0(member, header)

            def put(features: Array, targets: Array) -> None:
                member.write(_bytes(features))
                kept.append(targets)

            yield put
        about = json.dumps(samples.about)
        rest = {"images": np.array(samples.names), "parts": np.array(samples.parts), "about": np.array(about)}
        for name, values in {"targets": np.concatenate(kept), **rest}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, values, allow_pickle=False)


@contextmanager
def _parquet(descriptor: int, samples: Samples, features: Array, targets: Array) -> Iterator[Writer]:
    """Columns `image`, `part`, `target` (and `label`, where there are class names) and `features`, flat lists of fixed
    length; their shape and what is known stand in the schema's metadata."""
    arrow, parquet = need("pyarrow", "parquet"), need("pyarrow.parquet", "parquet")
    width, classes = math.prod(features.shape), samples.about.get("classes") or ()
    numbers = arrow.int64() if targets.dtype == np.int64 else arrow.list_(arrow.float32(), math.prod(targets.shape))
    named = [("label", arrow.string())] if classes and targets.dtype == np.int64 else []
    told = {"shape": list(features.shape), **samples.about}
    columns = [("image", arrow.string()), ("part", arrow.string()), ("target", numbers), *named]
    schema = arrow.schema(
        [*columns, ("features", arrow.list_(arrow.float32(), width))],
        metadata={key: json.dumps(value) for key, value in told.items()},
    )
    waiting: list[tuple[Array, Array]] = []
    done = 0

    with os.fdopen(os.dup(descriptor), "w+b") as file, parquet.ParquetWriter(file, schema) as writer:

        def flush() -> None:
            nonlocal done
            values = np.concatenate([one for one, _ in waiting]).reshape(-1, width)
            given = np.concatenate([one for _, one in waiting])
            rows = slice(done, done + len(values))
            columns = [arrow.array(samples.names[rows]), arrow.array(samples.parts[rows])]
            if given.dtype == np.int64:
                columns += [arrow.array(given)] + ([arrow.array([classes[place] for place in given])] if named else [])
            else:
                columns.append(arrow.FixedSizeListArray.from_arrays(given.reshape(-1), math.prod(targets.shape)))
            columns.append(arrow.FixedSizeListArray.from_arrays(values.reshape(-1), width))
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema))
            done += len(values)
            waiting.clear()

        def put(features: Array, targets: Array) -> None:
            waiting.append((features, targets))
            if sum(one.nbytes for one, _ in waiting) >= GROUP:
                flush()

        yield put
        if waiting:
            flush()
