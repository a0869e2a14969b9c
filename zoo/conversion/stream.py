"""Writes a converted file from its source: bytes copied, casts in chunks, other changes tensor by tensor."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from zoo.errors import WorkError
from zoo.formats import ByteRange, Source
from zoo.formats.dtypes import BITS, NUMPY_DTYPES
from zoo.formats.entry import Entry
from zoo.formats.files import Readers, WriteBehind, atomic_file, read_at, write_all
from zoo.formats.safetensors_file import encode_header, layout
from zoo.formats.source import CHUNK
from zoo.remap.expression import Span, evaluate
from zoo.remap.plan import Move, Plan

PAGE = 4096
ALIGN_FROM = 1 << 26
CAST_PIECE = 1 << 23
CAST_BLOCK = 1 << 18
"""Bytes cast at a time; with what is made on the way they stay in a core's cache."""


@dataclass(frozen=True)
class Piece(ABC):
    """A stretch of the destination, `nbytes` from `offset` on, and where its bytes come from."""

    offset: int
    nbytes: int

    @abstractmethod
    def content(self, readers: Readers) -> Iterator[bytes | memoryview]:
        """The bytes, in blocks of bounded size (of a transformed tensor: all at once)."""

    def write(self, destination: WriteBehind, readers: Readers) -> None:
        """Put the bytes in their place. Pieces may be written in any order, and at the same time."""
        position = self.offset
        for block in self.content(readers):
            write_all(destination.descriptor, block, position)
            position += len(block)

    def differs(self, descriptor: int, readers: Readers) -> int | None:
        """The position near which the destination first differs from what was to be written, or None."""
        position = self.offset
        for block in self.content(readers):
            for start in range(0, len(block), CHUNK):
                expected = bytes(block[start : start + CHUNK])
                if read_at(descriptor, len(expected), position) != expected:
                    return position
                position += len(expected)
        return None


@dataclass(frozen=True)
class Copy(Piece):
    """Bytes copied from a source file as they are."""

    span: ByteRange

    def content(self, readers: Readers) -> Iterator[bytes]:
        return readers.chunks(self.span)

    def write(self, destination: WriteBehind, readers: Readers) -> None:
        readers.copy(self.span, destination, self.offset)


@dataclass(frozen=True)
class Cast(Piece):
    """Bytes of one dtype in a source file that become another."""

    span: ByteRange
    source: str
    target: str

    def content(self, readers: Readers) -> Iterator[memoryview]:
        import numpy as np

        from zoo.formats.casting import cast

        for block in readers.chunks(self.span, CAST_BLOCK):
            values = np.frombuffer(block, NUMPY_DTYPES[self.source])
            yield np.ascontiguousarray(cast(values, self.source, self.target)).view("u1").data


@dataclass(frozen=True)
class Transform(Piece):
    """A tensor whose values are rearranged or computed, in memory."""

    move: Move
    source: Source

    def content(self, readers: Readers) -> Iterator[memoryview]:
        yield evaluate(self.move.value, self.source.array).reshape(-1).view("u1").data


def pieces_of(move: Move, source: Source, offset: int) -> Iterator[Piece]:
    """The pieces that make one tensor: copied, cast in chunks or, where neither will do, transformed in memory."""
    if (spans := _ranges(move.spans(), source)) is not None:
        for span in spans:
            yield Copy(offset, span.nbytes, span)
            offset += span.nbytes
    elif (spans := _ranges(move.cast_spans(), source)) is not None and move.value.inputs[0].dtype in NUMPY_DTYPES:
        before = move.value.inputs[0].dtype
        for span in spans:
            for start in range(0, span.nbytes, CAST_PIECE):
                part = ByteRange(span.path, span.offset + start, min(CAST_PIECE, span.nbytes - start))
                nbytes = part.nbytes * BITS[move.dtype] // BITS[before]
                yield Cast(offset, nbytes, part, before, move.dtype)
                offset += nbytes
    else:
        yield Transform(offset, Entry(move.target, move.dtype, move.shape).nbytes, move, source)


def _ranges(spans: tuple[Span, ...] | None, source: Source) -> list[ByteRange] | None:
    """Where the spans lie in files; None where some bytes must be rearranged first."""
    ranges: list[ByteRange] = []
    for span in spans if spans is not None else ():
        tensor = source.byte_range(span.source)
        if tensor is None:
            return None
        ranges.append(ByteRange(tensor.path, tensor.offset + span.start, span.stop - span.start))
    return None if spans is None else ranges


def padding(pieces: Iterable[Piece]) -> int:
    """Spaces to add to the header so that most bytes keep their place within a page: 0 where little is to be gained.

    The kernel then copies page by page; bytes that move within their pages take a quarter longer. It pays for large
    files whose tensors stay in their order. Small ones keep the very bytes that safetensors' save_file would write.
    """
    shifts: Counter[int] = Counter()
    for piece in pieces:
        if isinstance(piece, Copy):
            shifts[(piece.span.offset - piece.offset) % PAGE] += piece.nbytes
    shift, nbytes = max(shifts.items(), key=lambda item: item[1], default=(0, 0))
    return shift if nbytes >= ALIGN_FROM and nbytes * 2 > shifts.total() and shift % 8 == 0 else 0


def joined(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The pieces, with copies that are contiguous in both files merged."""
    run: Piece | None = None
    for piece in pieces:
        if isinstance(run, Copy) and isinstance(piece, Copy) and _follows(run, piece):
            nbytes = run.nbytes + piece.nbytes
            run = replace(run, nbytes=nbytes, span=replace(run.span, nbytes=nbytes))
            continue
        if run is not None:
            yield run
        run = piece
    if run is not None:
        yield run


def _follows(first: Copy, second: Copy) -> bool:
    return (second.span.path, second.span.offset, second.offset) == (
        first.span.path,
        first.span.offset + first.nbytes,
        first.offset + first.nbytes,
    )


THREADS = min(4, os.cpu_count() or 1)

Result = TypeVar("Result")


def write(
    plan: Plan,
    source: Source,
    destination: str | os.PathLike[str],
    *,
    metadata: Mapping[str, str] | None = None,
    verify_bytes: bool = True,
    sync: bool = True,
) -> dict[str, Any]:
    """Write the safetensors file that `plan` makes of `source`, complete or not at all.

    Args:
        metadata: what the header says beside the tensors; the caller lists `plan.ties` there.
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
    pieces = [p for entry in placed for p in pieces_of(moves[entry.name], source, len(header) + entry.offset)]
    if spaces := padding(pieces):
        header = encode_header(placed, metadata, spaces)
        pieces = [replace(piece, offset=piece.offset + spaces) for piece in pieces]
    size = len(header) + sum(entry.nbytes for entry in placed)
    with Readers() as readers, atomic_file(Path(destination), sources=source.files, sync=sync) as descriptor:
        _write(WriteBehind(descriptor, active=sync), header, pieces, readers)
        if verify_bytes:
            _verify(descriptor, header, pieces, readers, sync)
        if os.fstat(descriptor).st_size != size:
            raise WorkError(f"{destination} came out at another size than its header says; nothing was written")
    return {
        "destination": str(destination),
        "tensors": len(placed),
        "bytes": size,
        "copied": sum(piece.nbytes for piece in pieces if not isinstance(piece, Cast | Transform)),
        "cast": sum(piece.nbytes for piece in pieces if isinstance(piece, Cast)),
        "transformed": sum(piece.nbytes for piece in pieces if isinstance(piece, Transform)),
        "verified": verify_bytes,
    }


def _write(file: WriteBehind, header: bytes, pieces: list[Piece], readers: Readers) -> None:
    def write_piece(piece: Piece) -> int:
        piece.write(file, readers)
        return piece.offset + piece.nbytes

    file.write(header, 0)
    for end in _each(joined(pieces), write_piece):
        file.reached(end)


def _verify(descriptor: int, header: bytes, pieces: list[Piece], readers: Readers, sync: bool) -> None:
    """Read back and compare, while the disk is still writing."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        synced = pool.submit(os.fsync, descriptor) if sync else None
        places = [] if read_at(descriptor, len(header), 0) == header else [0]
        places += [
            place for place in _each(joined(pieces), lambda p: p.differs(descriptor, readers)) if place is not None
        ]
        if synced is not None:
            synced.result()
    if places:
        raise WorkError(
            f"the file was written, but reads back differently near byte {places[0]:,}; it was removed again",
            suggestion="did the source change meanwhile? If not, suspect the disk or the memory",
        )


def _each(pieces: Iterable[Piece], work: Callable[[Piece], Result]) -> Iterator[Result]:
    """What `work` gives for each piece, in order. Casts, which keep a core busy, run several at a time."""
    for parallel, group in groupby(pieces, lambda piece: isinstance(piece, Cast)):
        if parallel:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(THREADS) as pool:
                yield from pool.map(work, group)
        else:
            yield from map(work, group)
