"""One network of a file that contains several: the tensors whose names start with a prefix, under what follows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError, did_you_mean, listed
from zoo.formats.source import Source

if TYPE_CHECKING:
    import numpy as np

EVERYTHING = "."
"""The key that takes everything in a file, with dotted names."""


class Part(Source):
    """Some tensors of another source: `names` maps their names here to those in the file."""

    def __init__(self, whole: Source, names: Mapping[str, str], key: str) -> None:
        entries = {new: replace(whole.entries[old], name=new) for new, old in names.items()}
        ranges = {new: whole.ranges[old] for new, old in names.items() if old in whole.ranges}
        super().__init__(whole.location, f"{whole.kind}, under {key!r}", entries, ranges, whole.files)
        self.whole, self.names = whole, names
        short = {old: new for new, old in names.items()}
        both = ((short.get(alias), short.get(name)) for alias, name in whole.aliases.items())
        self.aliases = {alias: name for alias, name in both if alias is not None and name is not None}
        self.notes = whole.notes  # the metadata speak of the whole, and are left there

    def array(self, name: str) -> np.ndarray[Any, Any]:
        return self.whole.array(self.names[name])

    def close(self) -> None:
        self.whole.close()


def part_of(source: Source, key: str | None) -> Source:
    """The part of `source` that is under `key`; all of it where there is no key, or `.`.

    Raises InputError where no name starts with the key, with the prefixes that there are.
    """
    if key is None or key == EVERYTHING:
        return source
    names = names_under(source.entries, key)
    if not names:
        source.close()
        raise no_such_key(source.location, key, source.entries)
    return Part(source, names, key)


def names_under(names: Iterable[str], key: str) -> dict[str, str]:
    """What follows the prefix `key` in each name that has it -> the name; empty where none has.

    The prefix may stand behind others (`encoder` in `module.encoder.fc`) as long as these are the same everywhere.
    """
    middle = f"{key.strip('.')}."
    known = list(names)
    found = {name[: place + len(middle)] for name in known if (place := f".{name}".find(f".{middle}")) >= 0}
    prefix = middle if middle in found else next(iter(found), "") if len(found) == 1 else ""
    return {name.removeprefix(prefix): name for name in known if prefix and name.startswith(prefix)}


def no_such_key(location: str, key: str, names: Iterable[str], more: Iterable[str] = ()) -> InputError:
    """What is said where `key` is neither one of the containers (`more`) nor the prefix of names."""
    parts = [name.split(".") for name in names]
    prefixes = dict.fromkeys(".".join(part[:depth]) for depth in (1, 2, 3) for part in parts if len(part) > depth)
    known = [*more, *(prefix for prefix in prefixes if prefix not in more)]
    near = did_you_mean(key, known)
    return InputError(
        f"{location} has no tensors under {key!r}" + (f"; it has {listed(known, 10)}" if known else ""), suggestion=near
    )
