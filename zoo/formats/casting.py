"""Converts arrays between dtypes with numpy alone; bfloat16, which numpy lacks, is carried as 16-bit integers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.formats.dtypes import NUMPY_DTYPES, TORCH_DTYPES

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


def cast(array: Array, source: str, target: str) -> Array:
    """`array`, which carries values of dtype `source`, with the values in dtype `target` (safetensors' spelling).

    Rounds to nearest even; what is too large becomes infinite, and NaN stays NaN. float64 reaches bfloat16 by way of
    float32, as in torch. Fractions are cut off on the way to integers.
    """
    import numpy as np

    if source == target:
        return array
    if "F8" in source or "F8" in target:
        return _by_torch(array, source, target)
    values = _from_bfloat16(array) if source == "BF16" else array
    with np.errstate(over="ignore", invalid="ignore"):
        if target == "BF16":
            return _to_bfloat16(np.ascontiguousarray(values, "<f4"))
        converted: Array = values.astype(NUMPY_DTYPES[target])
        return converted


def _from_bfloat16(bits: Array) -> Array:
    wide = bits.astype("<u4")
    wide <<= 16
    values: Array = wide.view("<f4")
    return values


def _to_bfloat16(values: Array) -> Array:
    """The upper half of a float32, rounded; a NaN's payload may lie in the lower half, so NaNs are set apart."""
    import numpy as np

    bits = values.view("<u4")
    rounded = bits >> 16
    rounded &= 1
    rounded += 0x7FFF
    rounded += bits
    rounded >>= 16
    nan = np.isnan(values)
    if nan.any():
        rounded[nan] = (bits[nan] >> 16) | 0x40
    narrow: Array = rounded.astype("<u2")
    return narrow


def _by_torch(array: Array, source: str, target: str) -> Array:
    """The 8-bit floats, which numpy does not know at all."""
    import torch

    from zoo.formats.tensors import to_array, to_tensor

    return to_array(to_tensor(array.copy(), source).float().to(getattr(torch, TORCH_DTYPES[target])))
