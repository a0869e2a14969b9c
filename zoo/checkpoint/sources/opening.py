"""Finds out what a location is and opens it."""

from __future__ import annotations

from pathlib import Path

from zoo.checkpoint.sources.safetensors_file import open_safetensors, open_sharded
from zoo.checkpoint.sources.source import Source
from zoo.errors import InputError


def open_source(location: str | Path, *, trust_pickle: bool = False, key: str | None = None) -> Source:
    """The checkpoint at `location`: a file, a folder, `hf://org/repo[/file][@revision]` or an https address.

    Args:
        trust_pickle: run the code that a whole-model pickle holds; the only way to read one.
        key: which state dict of several to take, as a dotted path (`state_dict`, `teacher`).

    Raises InputError where it is missing, damaged, of an unknown kind, or would need code to be run.
    """
    path = Path(location)
    if path.name.endswith(".index.json"):
        return open_sharded(path, str(location))
    if path.suffix == ".safetensors":
        return open_safetensors(path, str(location))
    raise InputError(f"{location} is of no kind that zoo reads")
