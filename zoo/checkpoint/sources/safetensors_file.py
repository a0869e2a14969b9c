"""Opens `.safetensors` files."""

from __future__ import annotations

from pathlib import Path

from zoo.checkpoint.header import read_header, tied_names
from zoo.checkpoint.sources.source import ByteRange, Source


def open_safetensors(path: Path, location: str) -> Source:
    """One safetensors file.

    Names that the metadata ties to a tensor in the file (`alias: canonical`, as safetensors' save_model writes them)
    are entries too, and aliases.
    """
    header = read_header(path)
    start = header.data_start
    entries = dict(header.entries)
    ranges = {name: ByteRange(path, start + entry.offset, entry.nbytes) for name, entry in entries.items()}
    source = Source(location, "safetensors file", entries, ranges, (path,))
    source.metadata = header.metadata
    for alias, canonical in tied_names(header.metadata).items():
        if canonical in header.entries and alias not in header.entries:
            source.tie(alias, canonical)
    if "zoo" in header.metadata:
        source.kind = "zoo checkpoint"
    return source
