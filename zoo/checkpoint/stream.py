"""Carries out a plan from file to file: copies of bytes, casts by chunks, transforms tensor by tensor.

A move that only renames is copied by the kernel and never passes through this process, so memory stays the same
whatever the file's size. Importing this module imports neither numpy nor torch; casts and transforms import numpy.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zoo.checkpoint.atomic import atomic_file
from zoo.checkpoint.copying import CHUNK, Readers, WriteBehind
from zoo.checkpoint.expression import evaluate
from zoo.checkpoint.header import Entry, encode_header, layout
from zoo.checkpoint.moves import Move
from zoo.checkpoint.plan import Plan
from zoo.checkpoint.sources import ByteRange, Source
from zoo.checkpoint.sources.source import NUMPY_DTYPES
from zoo.checkpoint.spans import Span
from zoo.errors import WorkError

PAGE = 4096
ALIGN_FROM = 1 << 26


@dataclass(frozen=True)
class _Piece(ABC):
    """A run of the destination's bytes from `offset` on, and where they come from."""

    offset: int

    @abstractmethod
    def content(self, readers: Readers) -> Iterator[bytes | memoryview]:
        """The bytes, a bounded amount at a time (a transformed tensor: all of it)."""

    def write(self, destination: WriteBehind, readers: Readers) -> None:
        position = self.offset
        for block in self.content(readers):
            destination.write(block, position)
            position += len(block)

    def differs(self, descriptor: int, readers: Readers) -> int | None:
        """The first place near which the destination holds other bytes, or None."""
        position = self.offset
        for block in self.content(readers):
            for start in range(0, len(block), CHUNK):
                expected = bytes(block[start : start + CHUNK])
                if os.pread(descriptor, len(expected), position) != expected:
                    return position
                position += len(expected)
        return None


@dataclass(frozen=True)
class _Copy(_Piece):
    """Bytes as they lie in a source file."""

    span: ByteRange

    def content(self, readers: Readers) -> Iterator[bytes]:
        return readers.chunks(self.span)

    def write(self, destination: WriteBehind, readers: Readers) -> None:
        readers.copy(self.span, destination, self.offset)


@dataclass(frozen=True)
class _CastPiece(_Piece):
    """Bytes of one dtype that become another, chunk by chunk."""

    spans: tuple[ByteRange, ...]
    source: str
    target: str

    def content(self, readers: Readers) -> Iterator[memoryview]:
        import numpy as np

        from zoo.checkpoint.casting import cast

        for span in self.spans:
            for block in readers.chunks(span):
                values = np.frombuffer(bytearray(block), NUMPY_DTYPES[self.source])
                yield np.ascontiguousarray(cast(values, self.source, self.target)).view("u1").data


@dataclass(frozen=True)
class _Tensor(_Piece):
    """A tensor that is made as a whole."""

    move: Move
    source: Source

    def content(self, readers: Readers) -> Iterator[memoryview]:
        yield evaluate(self.move.value, self.source.array).reshape(-1).view("u1").data


def write(
    plan: Plan,
    source: Source,
    destination: str | os.PathLike[str],
    *,
    metadata: Mapping[str, str] | None = None,
    verify_bytes: bool = True,
    sync: bool = True,
) -> dict[str, Any]:
    """Write the safetensors file that `plan` makes of `source`, whole or not at all.

    Args:
        metadata: what the header says beside the tensors; the caller tells of `plan.ties` there.
        verify_bytes: read the file back and compare every byte with what the source gives again.
        sync: wait until the disk has it, so that a power cut right afterwards loses nothing.

    Returns `{"destination", "tensors", "bytes", "copied", "cast", "transformed", "verified"}`, amounts in bytes of the
    destination. Raises InputError where the destination cannot be written or is the source, and WorkError where the
    work fails: a full disk, a source that changes meanwhile, bytes that read back differently. Nothing is left behind
    then, and the source is only ever read.
    """
    moves = {move.target: move for move in plan.moves}
    placed = layout(Entry(move.target, move.dtype, move.shape) for move in plan.moves)
    header = encode_header(placed, metadata)
    pieces = [piece for entry in placed for piece in _pieces(moves[entry.name], entry, source, len(header))]
    if padding := _padding(pieces):
        header = encode_header(placed, metadata, padding)
        pieces = [replace(piece, offset=piece.offset + padding) for piece in pieces]
    size = len(header) + sum(entry.nbytes for entry in placed)
    with Readers() as readers, atomic_file(Path(destination), sources=source.files, sync=sync) as descriptor:
        destination_file = WriteBehind(descriptor, active=sync)
        destination_file.write(header, 0)
        for run in _joined(pieces):
            run.write(destination_file, readers)
        if verify_bytes:
            _verify(descriptor, header, pieces, readers, sync)
        if os.fstat(descriptor).st_size != size:
            raise WorkError(f"{destination} came out at another size than its header says; nothing was written")
    return {
        "destination": str(destination),
        "tensors": len(placed),
        "bytes": size,
        **_amounts(placed, pieces, len(header)),
        "verified": verify_bytes,
    }


def _pieces(move: Move, entry: Entry, source: Source, header_bytes: int) -> Iterator[_Piece]:
    """How one tensor's bytes come about: copied, cast by chunks or, where neither will do, made as a whole."""
    offset = header_bytes + entry.offset
    if (ranges := _ranges(move.spans(), source)) is not None:
        for span in ranges:
            yield _Copy(offset, span)
            offset += span.nbytes
    elif (ranges := _ranges(move.cast_spans(), source)) is not None and move.value.inputs[0].dtype in NUMPY_DTYPES:
        yield _CastPiece(offset, tuple(ranges), move.value.inputs[0].dtype, move.dtype)
    else:
        yield _Tensor(offset, move, source)


def _ranges(spans: tuple[Span, ...] | None, source: Source) -> list[ByteRange] | None:
    """Where the spans lie in files; None where some bytes must be rearranged first."""
    ranges: list[ByteRange] = []
    for span in spans if spans is not None else ():
        whole = source.byte_range(span.source)
        if whole is None:
            return None
        ranges.append(ByteRange(whole.path, whole.offset + span.start, span.stop - span.start))
    return None if spans is None else ranges


def _padding(pieces: list[_Piece]) -> int:
    """Spaces to add to the header so that most bytes keep their place within a page: 0 where little is to be gained.

    The kernel then copies page by page; bytes that move within their pages take a quarter longer. It pays for large
    files whose tensors stay in their order. Small ones keep the very bytes that safetensors' save_file would write.
    """
    shifts: Counter[int] = Counter()
    for piece in pieces:
        if isinstance(piece, _Copy):
            shifts[(piece.span.offset - piece.offset) % PAGE] += piece.span.nbytes
    shift, nbytes = max(shifts.items(), key=lambda item: item[1], default=(0, 0))
    return shift if nbytes >= ALIGN_FROM and nbytes * 2 > shifts.total() and shift % 8 == 0 else 0


def _joined(pieces: list[_Piece]) -> Iterator[_Piece]:
    """The pieces, with copies that follow each other in both files made one."""
    run: _Piece | None = None
    for piece in pieces:
        if isinstance(run, _Copy) and isinstance(piece, _Copy) and _follows(run, piece):
            run = replace(run, span=replace(run.span, nbytes=run.span.nbytes + piece.span.nbytes))
            continue
        if run is not None:
            yield run
        run = piece
    if run is not None:
        yield run


def _follows(first: _Copy, second: _Copy) -> bool:
    return (second.span.path, second.span.offset, second.offset) == (
        first.span.path,
        first.span.offset + first.span.nbytes,
        first.offset + first.span.nbytes,
    )


def _verify(descriptor: int, header: bytes, pieces: list[_Piece], readers: Readers, sync: bool) -> None:
    """Read back and compare, while the disk is still writing."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        synced = pool.submit(os.fsync, descriptor) if sync else None
        wrong = None if os.pread(descriptor, len(header), 0) == header else 0
        for piece in _joined(pieces):
            if wrong is not None:
                break
            wrong = piece.differs(descriptor, readers)
        if synced is not None:
            synced.result()
    if wrong is not None:
        raise WorkError(
            f"the file was written, but reads back differently near byte {wrong:,}; it was removed again",
            suggestion="did the source change meanwhile? If not, suspect the disk or the memory",
        )


def _amounts(placed: list[Entry], pieces: list[_Piece], header_bytes: int) -> dict[str, int]:
    sizes = {header_bytes + entry.offset: entry.nbytes for entry in placed if entry.nbytes}
    cast = sum(sizes.get(piece.offset, 0) for piece in pieces if isinstance(piece, _CastPiece))
    transformed = sum(sizes.get(piece.offset, 0) for piece in pieces if isinstance(piece, _Tensor))
    return {"copied": sum(sizes.values()) - cast - transformed, "cast": cast, "transformed": transformed}
