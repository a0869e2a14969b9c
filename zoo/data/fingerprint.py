"""What a run's data is, sample by sample, so that a later run knows whether it has the same, and what differs.

Of a file name, size and bytes are looked at, of anything else its values. Small sets are read completely; of large ones
only so much of each file that all together stay within `BUDGET`, and beyond that of every k-th file: the sizes of all
are compared in any case. A replaced picture has other bytes nearly everywhere, so a part of them shows it.
"""

from __future__ import annotations

import collections
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from zoo.data.open_data import OpenData
from zoo.data.samples import Samples
from zoo.errors import ZooError, listed
from zoo.model.undisturbed import generators_kept

BUDGET = 256 * 2**20  # bytes that are read of all files together
LEAST = 4096  # bytes that are read of a file: a picture's header and some of its pixels
VALUES = 512  # samples of a large part that is not made of files: reading one may mean decoding it
SMALL = 16 * 2**20  # bytes; a part that is not larger is looked at completely
SHOWN = 5  # names that a message lists


class Row(NamedTuple):
    """One sample: its part, class (or target), name, size in bytes, and a digest of its bytes ("" where not read)."""

    part: str
    label: str
    name: str
    size: int
    digest: str


@dataclass(frozen=True)
class Fingerprint:
    """The samples of all parts in their order; `read` says how much of them was looked at."""

    rows: tuple[Row, ...]
    read: str

    @property
    def digest(self) -> str:
        """32 bytes over everything, in hexadecimal."""
        digest = hashlib.sha256(self.read.encode())
        for row in self.rows:
            digest.update(json.dumps(row).encode())
        return digest.hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """What a report says of it."""
        return {"digest": self.digest, "samples": len(self.rows), "read": self.read}

    def as_lines(self) -> str:
        """A JSON document a sample, one a line; read back by `read_lines`."""
        return "".join(f"{json.dumps(row)}\n" for row in self.rows)


def read_lines(text: str) -> tuple[Row, ...]:
    """The rows that `as_lines` wrote. Raises ValueError or TypeError for anything else."""
    return tuple(Row(*json.loads(line)) for line in text.splitlines())


def fingerprint(data: OpenData) -> Fingerprint:
    """The fingerprint of opened data. It changes no random generator; what cannot be read has no digest."""
    with generators_kept():
        rows = [row for part, samples in data.parts.items() for row in _rows(part, samples, data)]
        varies = not all(map(_is_steady, data.parts.values()))
    files = [row.name for row in rows if row.size < 0]
    limits, root = _Limits(files), _root(files)
    named = []
    for number, row in enumerate(rows):
        if row.size < 0:
            name = os.path.relpath(row.name, root).replace(os.sep, "/") if root else row.name
            row = row._replace(name=name, size=_size(row.name), digest=limits.digest(row.name, number))
        named.append(row._replace(size=0, digest="") if varies and not files else row)
    return Fingerprint(
        tuple(named), "their number alone: they change from one reading to the next" if varies else str(limits)
    )


def _rows(part: str, samples: Samples, data: OpenData) -> Iterator[Row]:
    """A row a sample; of a file its path, and a size below 0, for the time being."""
    for position in _chosen(samples):
        value, target = _raw(samples, position)
        label = _label(target, data.classes, data.task)
        if _is_file(value):
            yield Row(part, label, os.path.abspath(value), -1, "")
        else:
            yield Row(part, label, f"sample {samples.indices[position]}", *_of_values(value))


def _chosen(samples: Samples) -> Iterable[int]:
    """All positions of a part that is made of files, or is small; else as many as `VALUES`, evenly spread."""
    first = _raw(samples, 0)[0]
    if len(samples) <= VALUES or _is_file(first) or _of_values(first)[0] * len(samples) <= SMALL:
        return range(len(samples))
    spread: list[int] = np.linspace(0, len(samples) - 1, VALUES).astype(int).tolist()
    return spread


def _raw(samples: Samples, position: int) -> tuple[Any, Any]:
    try:
        return samples.raw(position)
    except ZooError:  # the run says so when it gets there
        return None, None


def _is_file(value: Any) -> bool:
    return isinstance(value, str | os.PathLike)


def _is_steady(samples: Samples) -> bool:
    """Whether a sample is the same whenever it is read: a caller's data set may augment by itself."""
    first, again = (_raw(samples, 0)[0] for _ in range(2))
    return _is_file(first) or _of_values(first) == _of_values(again)


def _root(files: Sequence[str]) -> str:
    """The folder that all files lie in, so that names do not depend on where that is."""
    try:
        return os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in files]) if files else ""
    except ValueError:  # on several drives
        return ""


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


class _Limits:
    """How much of each file is read."""

    def __init__(self, files: Sequence[str]) -> None:
        self.every = max(math.ceil(len(files) * LEAST / BUDGET), 1)
        self.most = None if sum(map(_size, files)) <= BUDGET else max(BUDGET // len(files), LEAST)

    def __str__(self) -> str:
        if self.most is None:
            return "everything"
        of = "each file" if self.every == 1 else f"one file in {self.every}, and the size of all"
        return f"{self.most} bytes of {of}"

    def digest(self, path: str, number: int) -> str:
        if number % self.every:
            return ""
        size = _size(path)
        try:
            with open(path, "rb") as file:
                if self.most is None or size <= self.most:
                    data = file.read()
                else:
                    data = file.read(self.most // 2)
                    file.seek(size - self.most // 2)
                    data += file.read(self.most // 2)
        except OSError:
            return ""
        return _short(data)


def _of_values(value: Any) -> tuple[int, str]:
    if value is None:
        return 0, ""
    array = np.asarray(value.numpy(force=True) if hasattr(value, "numpy") else value)
    head = f"{array.shape} {array.dtype} ".encode()
    return array.nbytes, _short(head + (repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes()))


def _short(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _label(target: Any, classes: Sequence[str], task: str) -> str:
    values = target.tolist() if hasattr(target, "tolist") else target
    if task == "classification" and isinstance(values, int) and 0 <= values < len(classes):
        return classes[values]
    return json.dumps(values, default=str)


@dataclass(frozen=True)
class Differences:
    """What became of the samples since: their names, each with its part."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    relabelled: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    reordered: bool = False

    def __bool__(self) -> bool:
        return self.reordered or any((self.added, self.removed, self.relabelled, self.moved, self.replaced))

    @property
    def only_replaced(self) -> bool:
        """Whether the samples have their names, classes, parts and order still, and some have other bytes."""
        return bool(self) and self == Differences(replaced=self.replaced)

    def lines(self) -> Iterator[str]:
        """Each kind of difference in words, with the first names."""
        said = {
            "added": self.added,
            "removed": self.removed,
            "of another class": self.relabelled,
            "in another part (training or held out)": self.moved,
            "of other bytes": self.replaced,
        }
        for what, names in said.items():
            if names:
                yield f"{len(names)} {'samples' if len(names) > 1 else 'sample'} {what}: {listed(names, SHOWN)}"
        if self.reordered:
            yield "the samples are in another order"


def compare(before: Sequence[Row], now: Sequence[Row]) -> Differences:
    """What differs between the rows of two fingerprints; a sample is known by its name."""
    old, new = _by_name(before), _by_name(now)
    both = [key for key in old if key in new]
    found = Differences(
        added=tuple(name for name, number in new if (name, number) not in old),
        removed=tuple(name for name, number in old if (name, number) not in new),
        relabelled=tuple(key[0] for key in both if old[key].label != new[key].label),
        moved=tuple(key[0] for key in both if old[key].part != new[key].part),
        replaced=tuple(key[0] for key in both if old[key][3:] != new[key][3:]),
    )
    if found.added or found.removed:  # the others were split in another way then: what follows from it says nothing
        return replace(found, moved=())
    if found and not found.only_replaced:
        return found
    return replace(found, reordered=list(old) != list(new))


def _by_name(rows: Sequence[Row]) -> dict[tuple[str, int], Row]:
    """By name, and by number where a name occurs more than once."""
    seen: collections.Counter[str] = collections.Counter()
    found = {}
    for row in rows:
        found[row.name, seen[row.name]] = row
        seen[row.name] += 1
    return found
