"""A tensor by name, dtype and shape, whatever file it is in."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from zoo.formats.dtypes import BITS


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor by name, dtype (safetensors' spelling, a key of `BITS`) and shape.

    `offset` counts bytes from the end of the header; it means something only in a `Header` or a `layout`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int = 0

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.elements * BITS[self.dtype] // 8


def is_possible(shape: Iterable[int], dtype: str) -> bool:
    """Whether a tensor's size in bits stays within 64 bits, even if a later size is 0 (as upstream)."""
    bits = BITS[dtype]
    for size in shape:
        bits *= size
        if bits >= 2**64:
            return False
    return True
