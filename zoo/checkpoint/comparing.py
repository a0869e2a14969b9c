"""Compares two tensors block by block: bits first, then how far apart the values are. Only 8-bit floats need torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.checkpoint.copying import CHUNK, Readers
from zoo.checkpoint.header import BITS
from zoo.checkpoint.sources import ByteRange, Source
from zoo.checkpoint.sources.source import NUMPY_DTYPES

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

BLOCK = CHUNK // 8
"""Elements compared at a time; a block of the widest dtype fills one chunk of reading."""

_FLOATS = ("F16", "BF16", "F32", "F64")


@dataclass
class Difference:
    """Sums over the elements of one tensor or of many.

    `changed` counts elements of other bits (two NaNs are alike) or, where the dtypes differ, of other values.
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
    if one == two and one in _FLOATS:
        found.ulps = _ulps(mine, theirs, one, changed & finite)
    return found


def _values(block: bytes, dtype: str) -> Array:
    """The elements in the widest type of their kind: float64 or complex128."""
    import numpy as np

    from zoo.checkpoint.casting import cast

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
