"""Carries out a plan from file to file: copies of bytes, casts by chunks, transforms tensor by tensor.

A move that only renames is copied by the kernel and never passes through this process, so memory stays the same
whatever the file's size. Importing this module imports neither numpy nor torch; casts and transforms import numpy.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from zoo.checkpoint.atomic import atomic_file, read_at
from zoo.checkpoint.copying import Readers, WriteBehind
from zoo.checkpoint.header import Entry, encode_header, layout
from zoo.checkpoint.pieces import Cast, Piece, Whole, joined, padding, pieces_of
from zoo.checkpoint.plan import Plan
from zoo.checkpoint.sources import Source
from zoo.errors import WorkError

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
        "copied": sum(piece.nbytes for piece in pieces if not isinstance(piece, Cast | Whole)),
        "cast": sum(piece.nbytes for piece in pieces if isinstance(piece, Cast)),
        "transformed": sum(piece.nbytes for piece in pieces if isinstance(piece, Whole)),
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
