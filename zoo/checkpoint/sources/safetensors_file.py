"""Opens `.safetensors` files and sharded checkpoints (an index file beside its shards)."""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath
from typing import Any

from zoo.checkpoint.header import Entry, Header, read_header
from zoo.checkpoint.sources.source import ByteRange, Source
from zoo.errors import InputError, Problem, did_you_mean

MAX_INDEX_BYTES = 100_000_000


def open_safetensors(path: Path, location: str) -> Source:
    """One safetensors file."""
    header = read_header(path)
    kind = "zoo checkpoint" if "zoo" in header.metadata else "safetensors file"
    source = Source(location, kind, header.entries, _ranges(path, header), (path,))
    source.metadata = header.metadata
    return source


def _ranges(path: Path, header: Header) -> dict[str, ByteRange]:
    start = header.data_start
    return {name: ByteRange(path, start + entry.offset, entry.nbytes) for name, entry in header.entries.items()}


def open_sharded(index: Path, location: str) -> Source:
    """A `*.safetensors.index.json` and the shards it names, which must lie in the same folder.

    Raises InputError for shard names that lead elsewhere, missing shards, and an index and headers that disagree.
    """
    weight_map = read_weight_map(index)
    headers = {shard: read_header(shard_path(index, shard)) for shard in sorted(set(weight_map.values()))}
    _check_agreement(index, weight_map, headers)
    entries: dict[str, Entry] = {}
    ranges: dict[str, ByteRange] = {}
    metadata: dict[str, str] = {}
    for shard, header in headers.items():
        entries |= header.entries
        ranges |= _ranges(shard_path(index, shard), header)
        metadata |= header.metadata
    kind = f"sharded safetensors checkpoint ({len(headers)} shards)"
    source = Source(location, kind, entries, ranges, tuple(shard_path(index, shard) for shard in headers))
    source.metadata = metadata
    return source


def read_weight_map(index: Path) -> dict[str, str]:
    """Tensor name -> shard file name, as the index says; checked for form, not for truth."""
    try:
        if index.stat().st_size > MAX_INDEX_BYTES:
            raise InputError(f"{index} is larger than {MAX_INDEX_BYTES:,} bytes; that is no index of shards")
        table: Any = json.loads(index.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {index}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{index} is not JSON ({error})") from error
    weight_map = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{index} is not an index of shards: it has no weight_map")
    if not all(isinstance(shard, str) for shard in weight_map.values()):
        raise InputError(f"{index} is not an index of shards: its weight_map must map tensor names to file names")
    return weight_map


def shard_path(index: Path, shard: str) -> Path:
    """The shard's path: a plain file name in the index's folder, whatever the index says.

    A symbolic link is followed only where the index is one too (the Hugging Face cache links both into its blobs).
    """
    if PurePosixPath(shard).name != shard or "\\" in shard or "\0" in shard or shard in ("", ".", ".."):
        raise InputError(
            f"{index} names the shard {shard!r}; a shard must be a plain file name in the same folder",
            suggestion="do not trust this checkpoint: such a name can reach files outside its folder",
        )
    path = index.parent / shard
    if path.is_symlink() and not _linked_alike(index, path):
        raise InputError(f"the shard {path} is a symbolic link out of its folder, to {os.readlink(path)}")
    if not path.is_file():
        near = did_you_mean(shard, (file.name for file in index.parent.iterdir()))
        raise InputError(f"the shard {shard!r} that {index} names is missing", suggestion=near)
    return path


def _linked_alike(index: Path, path: Path) -> bool:
    """Whether the link stays in the index's folder, or leads to where the index itself really lies."""
    target = path.resolve().parent
    return target in (index.parent.resolve(), index.resolve().parent)


def _check_agreement(index: Path, weight_map: dict[str, str], headers: dict[str, Header]) -> None:
    problems = [
        Problem(f"{index} says that {name!r} is in {shard}, but it is not")
        for name, shard in weight_map.items()
        if name not in headers[shard].entries
    ]
    seen: dict[str, str] = {}
    for shard, header in headers.items():
        for name in header.entries:
            if name in seen:
                problems.append(Problem(f"{name!r} stands in two shards, {seen[name]} and {shard}"))
            elif name not in weight_map:
                problems.append(Problem(f"{shard} holds {name!r}, which {index} does not list"))
            seen[name] = shard
    if problems:
        raise InputError(problems[:10])
