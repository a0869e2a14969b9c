"""The pieces a destination file is made of: bytes copied as they lie, bytes cast, and tensors made as a whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from zoo.checkpoint.atomic import read_at, write_all
from zoo.checkpoint.copying import CHUNK, Readers, WriteBehind
from zoo.checkpoint.expression import evaluate
from zoo.checkpoint.header import BITS, Entry
from zoo.checkpoint.moves import Move
from zoo.checkpoint.sources import ByteRange, Source
from zoo.checkpoint.sources.source import NUMPY_DTYPES
from zoo.checkpoint.spans import Span

PAGE = 4096
ALIGN_FROM = 1 << 26
CAST_PIECE = 1 << 23
CAST_BLOCK = 1 << 18
"""Bytes cast at a time; with what is made on the way they stay in a core's cache."""


@dataclass(frozen=True)
class Piece(ABC):
    """`nbytes` of the destination from `offset` on, and where they come from."""

    offset: int
    nbytes: int

    @abstractmethod
    def content(self, readers: Readers) -> Iterator[bytes | memoryview]:
        """The bytes, a bounded amount at a time (a transformed tensor: all of it)."""

    def write(self, destination: WriteBehind, readers: Readers) -> None:
        """Put the bytes in their place. Pieces may be written in any order, and at the same time."""
        position = self.offset
        for block in self.content(readers):
            write_all(destination.descriptor, block, position)
            position += len(block)

    def differs(self, descriptor: int, readers: Readers) -> int | None:
        """The first place near which the destination holds other bytes, or None."""
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
    """Bytes as they lie in a source file."""

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

        from zoo.checkpoint.casting import cast

        for block in readers.chunks(self.span, CAST_BLOCK):
            values = np.frombuffer(block, NUMPY_DTYPES[self.source])
            yield np.ascontiguousarray(cast(values, self.source, self.target)).view("u1").data


@dataclass(frozen=True)
class Whole(Piece):
    """A tensor that is made as a whole."""

    move: Move
    source: Source

    def content(self, readers: Readers) -> Iterator[memoryview]:
        yield evaluate(self.move.value, self.source.array).reshape(-1).view("u1").data


def pieces_of(move: Move, source: Source, offset: int) -> Iterator[Piece]:
    """How one tensor's bytes come about: copied, cast by chunks or, where neither will do, made as a whole."""
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
        yield Whole(offset, Entry(move.target, move.dtype, move.shape).nbytes, move, source)


def _ranges(spans: tuple[Span, ...] | None, source: Source) -> list[ByteRange] | None:
    """Where the spans lie in files; None where some bytes must be rearranged first."""
    ranges: list[ByteRange] = []
    for span in spans if spans is not None else ():
        whole = source.byte_range(span.source)
        if whole is None:
            return None
        ranges.append(ByteRange(whole.path, whole.offset + span.start, span.stop - span.start))
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
    """The pieces, with copies that follow each other in both files made one."""
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
