"""What a weight file is and contains, from headers and tables alone: no tensor is read, nothing is run.

Of a zoo checkpoint, and of an architecture by its name, the network too: built without memory, and not before.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoo import registry
from zoo.errors import InputError, ZooError
from zoo.formats import Source, open_source
from zoo.formats.checkpoint_metadata import record_of
from zoo.formats.entry import Entry
from zoo.formats.names import by_module, in_order
from zoo.formats.part import EVERYTHING
from zoo.formats.remote import is_address
from zoo.formats.state_dicts import SeveralGroupsError
from zoo.formats.torch_file import UnsafePickleError
from zoo.given import absent, is_given


def inspect(
    location: str | os.PathLike[str], *, key: str | None = None, arguments: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What is at `location` (a file, a folder, hf://…, https://…), or an architecture by its name, as plain data.

    Returns `{"file", "kind", "bytes_on_disk", "metadata", "zoo", "tensors", "totals", "modules", "aliases",
    "wrappers", "notes", "refused", "model"}`. `tensors` are `{"name", "dtype", "shape", "bytes"}`, with `alias_of`
    where the tensor is another's too; `zoo` is a zoo checkpoint's decoded metadata, or None; `refused` are the classes
    that a pickle would call: such a file is described, not opened, and has no tensors here.

    `model` is None but for zoo checkpoints and architectures. There it has `architecture`, `arguments`, `input` and
    `output` (shapes of a batch of one image), `parameters`, of these those that are `frozen`, `trainable`, `loaded`
    from the base weights, `new` (made by a surgery) and `random` (neither), each None where nothing says so; `macs`,
    the multiply-accumulates of convolutions and matrix products (attention's too) for one image; and `tree`: nested
    modules with the same, `path`, `kind`, `settings`, `share` of the parameters, `children`, and `count`, of equal
    neighbours that are one node; its numbers are those of one of them.

    `key` is of a file (see `open_source`), `arguments` are an architecture's. Raises InputError where there is no such
    file or architecture, or it is damaged or of no known kind.
    """
    text = os.fspath(location)
    if (component := _architecture(text)) is not None:
        if key is not None:
            raise InputError(f"{text} is an architecture, which has no --key", suggestion="leave it out")
        from zoo.checkpoint import network

        empty = _empty(text, "architecture")
        return empty | {"file": None, "model": network.architecture(component, arguments or {})}
    if arguments:
        raise InputError(f"{text} is a file: what it was built with stands in it", suggestion="leave out --argument")
    try:
        with open_source(text, key=key) as source:
            return _with_model(_described(source), source)
    except SeveralGroupsError as error:
        with open_source(text, key=EVERYTHING) as source:
            source.notes.append(str(error))
            return _described(source)
    except UnsafePickleError as error:
        return _empty(text, error.kind) | {"notes": [str(error)], "refused": list(error.classes)}


def _architecture(text: str) -> registry.Component | None:
    """The architecture of that name; a file of the same name wins. Raises InputError for what is neither."""
    if is_address(text) or os.path.lexists(text):
        return None
    found = registry.find(text, "architectures")
    if found is None and not os.path.splitext(text)[1] and not os.path.isabs(text):
        near = registry.unknown(text, "architectures").problems[0]
        raise InputError(f"there is no file {text}, and {near.message}", suggestion=near.suggestion)
    return found


def _with_model(described: dict[str, Any], source: Source) -> dict[str, Any]:
    """With the network, where a sound zoo checkpoint says which it is; a note where it cannot be built."""
    if not isinstance(described["zoo"], dict) or _needs(described["zoo"]) or _edited(source):
        return described
    try:
        if (metadata := record_of(source)) is None:
            return described
        from zoo.checkpoint import network

        sizes = {"tensors": described["totals"]["tensors"], "elements": described["totals"]["elements"]}
        return described | {"model": network.checkpoint(source.location, metadata, source.files[0], sizes)}
    except ZooError as error:
        return described | {"notes": [*described["notes"], f"the network is left out: {error.problems[0].message}"]}


def _empty(location: str, kind: str) -> dict[str, Any]:
    return {
        "file": location,
        "kind": kind,
        "bytes_on_disk": os.path.getsize(location) if os.path.exists(location) else None,
        "metadata": {},
        "zoo": None,
        "tensors": [],
        "totals": {"tensors": 0, "elements": 0, "bytes": 0, "dtypes": {}},
        "modules": [],
        "aliases": {},
        "wrappers": [],
        "notes": [],
        "refused": [],
        "model": None,
    }


def _described(source: Source) -> dict[str, Any]:
    record = _record(source.metadata)
    own = {name: entry for name, entry in source.entries.items() if name not in source.aliases}
    return _empty(source.location, source.kind) | {
        "bytes_on_disk": sum(path.stat().st_size for path in source.files),
        "metadata": dict(source.metadata),
        "zoo": record,
        "tensors": [_row(entry, source.aliases.get(name)) for name, entry in source.entries.items()],
        "totals": {
            "tensors": len(own),
            "elements": sum(entry.elements for entry in own.values()),
            "bytes": sum(entry.nbytes for entry in own.values()),
            "dtypes": dict(Counter(entry.dtype for entry in own.values()).most_common()),
        },
        "modules": _modules(own),
        "aliases": dict(source.aliases),
        "wrappers": list(source.wrappers),
        "notes": [*source.notes, *_needs(record), *_edited(source)],
    }


def _needs(record: Any) -> list[str]:
    """What the checkpoint cannot be loaded without, as far as it says so."""
    architecture = record.get("architecture") if isinstance(record, dict) else None
    if not isinstance(architecture, str) or not is_given(architecture):
        return []
    return [str(absent("architectures", architecture))]


def _edited(source: Source) -> list[str]:
    """That the file is no longer what zoo wrote, and in which parts."""
    try:
        record_of(source)
    except InputError as error:
        return [problem.message for problem in error.problems]
    return []


def _row(entry: Entry, alias_of: str | None) -> dict[str, Any]:
    row = {"name": entry.name, "dtype": entry.dtype, "shape": list(entry.shape), "bytes": entry.nbytes}
    return row if alias_of is None else row | {"alias_of": alias_of}


def _record(metadata: Mapping[str, str]) -> Any:
    """The JSON under `zoo`, or None; whether it is sound is for loading to say."""
    try:
        return json.loads(metadata["zoo"]) if "zoo" in metadata else None
    except (ValueError, RecursionError):
        return None


@dataclass
class _Size:
    tensors: int = 0
    elements: int = 0
    bytes: int = 0


def _modules(entries: Mapping[str, Entry]) -> list[dict[str, Any]]:
    def add(size: _Size, name: str) -> None:
        size.tensors += 1
        size.elements += entries[name].elements
        size.bytes += entries[name].nbytes

    sizes = by_module(entries, _Size, add)
    return [{"path": path, **vars(sizes[path])} for path in in_order(sizes)]
