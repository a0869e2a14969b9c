"""Opens sharded checkpoints: an index (`*.index.json`) that says which tensor lies in which file beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError, Problem, did_you_mean, first_problems
from zoo.file_name import name_mistake
from zoo.formats.source import Source

if TYPE_CHECKING:
    import numpy as np


WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""What is looked for in a repository (or a folder) when no file is named, in this order."""

INDEX_SUFFIX = ".index.json"
MAX_INDEX_BYTES = 100_000_000


class ShardedSource(Source):
    """Several sources as one; the index and the shards agree on which tensor is where."""

    def __init__(self, index: Path, location: str, shards: dict[str, Source]) -> None:
        files = tuple(path for source in shards.values() for path in source.files)
        super().__init__(location, f"sharded checkpoint ({len(shards)} files)", {}, {}, files)
        self.shards = list(shards.values())
        self.owners: dict[str, Source] = {}
        for source in self.shards:
            self.entries |= source.entries
            self.ranges |= source.ranges
            self.aliases |= source.aliases
            self.metadata |= source.metadata
            self.notes += source.notes
            self.owners |= dict.fromkeys(source.entries, source)

    def array(self, name: str) -> np.ndarray[Any, Any]:
        return self.owners[name].array(name)

    def close(self) -> None:
        for source in self.shards:
            source.close()


def open_sharded(index: Path, location: str, open_file: Callable[[Path, str], Source]) -> Source:
    """The checkpoint whose index is at `index`; `open_file` opens one shard.

    Raises InputError for shard names that lead elsewhere, missing shards, and an index that disagrees with them.
    """
    weight_map = read_weight_map(index)
    shards: dict[str, Source] = {}
    for shard in sorted(set(weight_map.values())):
        path = shard_path(index, shard)
        shards[shard] = open_file(path, str(path))
    _check_agreement(index, weight_map, shards)
    return ShardedSource(index, location, shards)


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


def check_shard_name(index: Path, shard: str) -> None:
    """InputError unless `shard` is a plain file name, of no other index."""
    if shard.endswith(INDEX_SUFFIX):
        raise InputError(f"{index} names {shard[:200]!r} as a shard, which is an index itself")
    if name_mistake(shard):
        raise InputError(
            f"{index} names the shard {shard[:200]!r}; a shard must be a plain file name in the same folder",
            suggestion="do not trust this checkpoint: such a name can reach files outside its folder",
        )


def shard_path(index: Path, shard: str) -> Path:
    """The shard's path: a plain file name in the index's folder, whatever the index says.

    A symbolic link may stay in the folder or lead to where the index itself lies, nowhere else (the Hugging Face
    cache links both into its folder of blobs).
    """
    check_shard_name(index, shard)
    path = index.parent / shard
    try:
        allowed = (index.parent.resolve(), index.resolve().parent)
        leads_out = path.is_symlink() and path.resolve().parent not in allowed
    except (OSError, RuntimeError) as error:  # a link to itself
        raise InputError(f"the shard {path} is a symbolic link that leads nowhere: {error}") from error
    if leads_out:
        raise InputError(f"the shard {path} is a symbolic link out of its folder, to {os.readlink(path)}")
    if not path.is_file():
        near = did_you_mean(shard, (file.name for file in index.parent.iterdir()))
        raise InputError(f"the shard {shard!r} that {index} names is missing", suggestion=near)
    return path


def _check_agreement(index: Path, weight_map: dict[str, str], shards: dict[str, Source]) -> None:
    problems = [
        Problem(f"{index} says that {name!r} is in {shard}, but it is not")
        for name, shard in weight_map.items()
        if name not in shards[shard].entries
    ]
    seen: dict[str, str] = {}
    for shard, source in shards.items():
        for name in source.entries:
            if name in seen:
                problems.append(Problem(f"{name!r} is in two shards, {seen[name]} and {shard}"))
            elif name not in weight_map:
                problems.append(Problem(f"{shard} contains {name!r}, which {index} does not list"))
            seen[name] = shard
    if problems:
        raise InputError(first_problems(problems))
