"""What changed between two weight files: tensor by tensor and summed by module, in bounded memory, without torch."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.formats import ByteRange, Source, open_source
from zoo.formats.dtypes import BITS, FLOATING, NUMPY_DTYPES
from zoo.formats.files import Readers
from zoo.formats.names import by_module, in_order
from zoo.formats.source import CHUNK

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


STATUSES = ("equal", "changed", "dtype_changed", "shape_changed", "missing", "added")
"""Of a tensor: same bits; same dtype and shape, other values; other dtype; other shape; only in A; only in B."""


def diff(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    key_a: str | None = None,
    key_b: str | None = None,
    trust_pickle: bool = False,
) -> dict[str, Any]:
    """Compare the checkpoints at `a` and `b`; names must agree (`zoo convert` brings them together).

    Returns `{"a", "b", "equal", "counts", "tensors", "modules", "metadata_changed", "ties_changed",
    "frozen_violations", "notes"}`. A tensor's row is `{"name", "status", "dtype", "shape"}` (dtype and shape as a pair
    [A, B]) and, where values were compared, `"elements", "changed", "relative", "cosine", "largest", "ulps",
    "nonfinite"` (see `Difference`). `frozen_violations` are tensors that B says were frozen and that differ.

    Raises InputError where either cannot be read.
    """
    with (
        open_source(os.fspath(a), key=key_a, trust_pickle=trust_pickle) as first,
        open_source(os.fspath(b), key=key_b, trust_pickle=trust_pickle) as second,
        Readers() as readers,
    ):
        differences = _differences(first, second, readers)
        names = dict.fromkeys([*first.entries, *second.entries])
        rows = [_row(name, first, second, differences.get(name)) for name in names]
        return {
            "a": {"file": first.location, "kind": first.kind},
            "b": {"file": second.location, "kind": second.kind},
            "equal": all(row["status"] == "equal" for row in rows),
            "counts": dict.fromkeys(STATUSES, 0) | Counter(row["status"] for row in rows),
            "tensors": rows,
            "modules": _modules(rows, differences),
            "metadata_changed": _changed_keys(first.metadata, second.metadata),
            "ties_changed": _changed_keys(first.aliases, second.aliases),
            "frozen_violations": _frozen_violations(rows, second.metadata),
            "notes": _notes(first, second),
        }


def _differences(first: Source, second: Source, readers: Readers) -> dict[str, Difference]:
    """The difference of every tensor that has the same shape in both; tied names are compared once."""
    found: dict[tuple[str, str], Difference] = {}
    differences: dict[str, Difference] = {}
    for name, entry in first.entries.items():
        if name in second.entries and second.entries[name].shape == entry.shape:
            pair = (first.aliases.get(name, name), second.aliases.get(name, name))
            if pair not in found:
                found[pair] = compare(first, pair[0], second, pair[1], readers)
            differences[name] = found[pair]
    return differences


def _row(name: str, first: Source, second: Source, difference: Difference | None) -> dict[str, Any]:
    a, b = first.entries.get(name), second.entries.get(name)
    row = {
        "name": name,
        "status": _status(name, first, second, difference),
        "dtype": [a and a.dtype, b and b.dtype],
        "shape": [a and list(a.shape), b and list(b.shape)],
    }
    return row if difference is None else row | _numbers(difference)


def _status(name: str, first: Source, second: Source, difference: Difference | None) -> str:
    if name not in second.entries:
        return "missing"
    if name not in first.entries:
        return "added"
    if difference is None:
        return "shape_changed"
    if first.entries[name].dtype != second.entries[name].dtype:
        return "dtype_changed"
    return "changed" if difference.changed else "equal"


def _numbers(difference: Difference) -> dict[str, Any]:
    return {
        "elements": difference.elements,
        "changed": difference.changed,
        "relative": difference.relative,
        "cosine": difference.cosine,
        "largest": difference.largest,
        "ulps": difference.ulps,
        "nonfinite": difference.nonfinite,
    }


def _modules(rows: list[dict[str, Any]], differences: Mapping[str, Difference]) -> list[dict[str, Any]]:
    """Counts by status and the summed difference for each module that the names show."""
    status = {row["name"]: row["status"] for row in rows}
    counts: dict[str, Counter[str]] = by_module(status, Counter, lambda sum_, name: sum_.update([status[name]]))

    def add(total: Difference, name: str) -> None:
        if name in differences:
            total.add(differences[name])

    sums = by_module(status, Difference, add)
    return [{"path": path, "counts": dict(counts[path]), **_numbers(sums[path])} for path in in_order(sums)]


def _changed_keys(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    return sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))


def _frozen_violations(rows: list[dict[str, Any]], metadata: Mapping[str, str]) -> list[str]:
    """Tensors at or below what B's record names as frozen, which are not equal."""
    try:
        frozen = json.loads(metadata.get("zoo", "{}")).get("frozen", [])
    except (ValueError, AttributeError, RecursionError):
        return []
    names = {name for name in frozen if isinstance(name, str)} if isinstance(frozen, list) else set()
    return [
        row["name"]
        for row in rows
        if row["status"] not in ("equal", "missing")
        and any(row["name"] == name or row["name"].startswith(f"{name}.") for name in names)
    ]


def _notes(first: Source, second: Source) -> list[str]:
    notes = [f"A: {note}" for note in first.notes] + [f"B: {note}" for note in second.notes]
    if not first.entries.keys() & second.entries.keys():
        notes.append("the two have no name in common; bring them together with `zoo convert --remap` first")
    for letter, source, other in (("A", first, second), ("B", second, first)):
        if source.wrappers and source.wrappers != other.wrappers:
            prefix = "".join(source.wrappers)
            notes.append(
                f"every name in {letter} starts with {prefix}; take it off with a rule `strip_prefix: {prefix}`"
            )
    return notes


BLOCK = CHUNK // 8
"""Elements compared at a time; a block of the widest dtype fills one chunk of reading."""


@dataclass
class Difference:
    """Sums over the elements of one tensor or of many.

    `changed` counts elements whose bits differ (two NaNs are equal) or, where the dtypes differ, whose values do.
    `nonfinite` counts those of them where either side is infinite or NaN: such elements stay out of the norms.
    `squares_a`, `squares_b`, `squares_difference` and `product` are sums in float64; `largest` is the largest absolute
    change, `ulps` the largest in units in the last place.
    """

    elements: int = 0
    changed: int = 0
    nonfinite: int = 0
    squares_a: float = 0.0
    squares_b: float = 0.0
    squares_difference: float = 0.0
    product: float = 0.0
    largest: float = 0.0
    ulps: int = 0

    def add(self, other: Difference) -> None:
        for name in ("elements", "changed", "nonfinite", "squares_a", "squares_b", "squares_difference", "product"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.largest = max(self.largest, other.largest)
        self.ulps = max(self.ulps, other.ulps)

    @property
    def relative(self) -> float | None:
        """The norm of the change over the norm of A; None where that has no value (A is all zeros)."""
        if not self.squares_difference:
            return 0.0
        return _finite(math.sqrt(self.squares_difference / self.squares_a)) if self.squares_a else None

    @property
    def cosine(self) -> float | None:
        """The cosine of the angle between A and B; None where either is all zeros."""
        norms = math.sqrt(self.squares_a) * math.sqrt(self.squares_b)
        return _finite(min(1.0, max(-1.0, self.product / norms))) if norms else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def compare(first: Source, name: str, second: Source, other: str, readers: Readers) -> Difference:
    """How far tensor `other` of `second` is from tensor `name` of `first`, which has as many elements.

    Of the packed types (F4, F6), which no library here decodes, bytes are counted instead of elements.
    """
    one, two = first.entries[name].dtype, second.entries[other].dtype
    if one not in NUMPY_DTYPES or two not in NUMPY_DTYPES:
        one = two = "U8"
    total = Difference()
    blocks = zip(_blocks(first, name, one, readers), _blocks(second, other, two, readers), strict=True)
    for mine, theirs in blocks:
        total.add(_compare_block(mine, one, theirs, two))
    return total


def _blocks(source: Source, name: str, dtype: str, readers: Readers) -> Iterator[bytes]:
    """The tensor's bytes, `BLOCK` elements at a time."""
    step = BLOCK * BITS[dtype] // 8
    span = source.byte_range(name)
    if span is None:
        flat = source.array(name).reshape(-1)
        yield from (flat[start : start + BLOCK].tobytes() for start in range(0, flat.size, BLOCK))
        return
    for start in range(0, span.nbytes, step):
        block = ByteRange(span.path, span.offset + start, min(step, span.nbytes - start))
        yield b"".join(readers.chunks(block))


def _compare_block(mine: bytes, one: str, theirs: bytes, two: str) -> Difference:
    import numpy as np

    a, found = _values(mine, one), Difference()
    found.elements = a.size
    if one == two and mine == theirs:
        kept = a[np.isfinite(a)]
        found.squares_a = found.squares_b = found.product = float(np.vdot(kept, kept).real)
        return found
    b = _values(theirs, two)
    alike = np.isnan(a) & np.isnan(b)
    changed = (_bits(mine, one) != _bits(theirs, two) if one == two else a != b) & ~alike
    finite = np.isfinite(a) & np.isfinite(b)
    found.changed = int(np.count_nonzero(changed))
    found.nonfinite = int(np.count_nonzero(changed & ~finite))
    a, b = a[finite], b[finite]
    with np.errstate(over="ignore", invalid="ignore"):
        change = b - a
        found.squares_a, found.squares_b, found.squares_difference, found.product = (
            float(np.vdot(x, y).real) for x, y in ((a, a), (b, b), (change, change), (a, b))
        )
        found.largest = float(np.abs(change).max(initial=0.0))
    if one == two and one in FLOATING and BITS[one] > 8:
        found.ulps = _ulps(mine, theirs, one, changed & finite)
    return found


def _values(block: bytes, dtype: str) -> Array:
    """The elements in the widest type of their kind: float64 or complex128."""
    import numpy as np

    from zoo.formats.casting import cast

    values = np.frombuffer(bytearray(block), NUMPY_DTYPES[dtype])
    return values.astype("<c16") if dtype == "C64" else cast(values, dtype, "F64")


def _bits(block: bytes, dtype: str) -> Array:
    import numpy as np

    return np.frombuffer(block, f"<u{BITS[dtype] // 8}")


def _ulps(mine: bytes, theirs: bytes, dtype: str, where: Array) -> int:
    """The largest distance in representable numbers: the bits, put in the order of the values they stand for."""
    import numpy as np

    sign = np.uint64(1 << (BITS[dtype] - 1))

    def ordered(block: bytes) -> Array:
        bits = _bits(block, dtype)[where].astype("<u8")
        return np.where(bits & sign, sign - (bits ^ sign), sign + bits)

    a, b = ordered(mine), ordered(theirs)
    return int((np.maximum(a, b) - np.minimum(a, b)).max(initial=np.uint64(0)))
