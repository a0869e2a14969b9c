"""Between torch tensors and numpy arrays that carry their bits; imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from zoo.errors import InputError
from zoo.formats.dtypes import DTYPES, TORCH_DTYPES
from zoo.formats.entry import Entry

if TYPE_CHECKING:
    import numpy as np


NAMES = {getattr(torch, name): dtype for dtype, name in TORCH_DTYPES.items() if hasattr(torch, name)}
"""The name (safetensors' spelling) of each of torch's dtypes that a file can store."""


def entry(name: str, tensor: torch.Tensor) -> Entry:
    """Name, dtype and shape of `tensor`. Raises InputError for a dtype that safetensors does not have."""
    if tensor.dtype not in NAMES:
        raise InputError(f"tensor {name!r} has the dtype {tensor.dtype}, which a safetensors file cannot contain")
    return Entry(name, NAMES[tensor.dtype], tuple(tensor.shape))


def to_tensor(array: np.ndarray[Any, Any], dtype: str) -> torch.Tensor:
    """The tensor of dtype `dtype` (safetensors' spelling) whose bits `array` carries; they share memory."""
    tensor = torch.from_numpy(array)
    wanted: torch.dtype = getattr(torch, TORCH_DTYPES[dtype])
    return tensor if tensor.dtype == wanted else tensor.view(wanted)


def to_array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """The bits of a CPU tensor as an array that numpy can store (bfloat16 as integers), contiguous."""
    tensor, dtype = tensor.detach().contiguous(), DTYPES[NAMES[tensor.dtype]]
    if dtype.is_native:
        return tensor.numpy()
    carried: np.ndarray[Any, Any] = tensor.view(getattr(torch, f"int{dtype.bits}")).numpy()
    return carried.view(dtype.numpy)


def same_bits(tensor: torch.Tensor, other: torch.Tensor | None) -> bool:
    """Whether both have the same dtype, shape and bits: NaN equals itself, 0 and -0 differ. On any device."""
    if other is None or (tensor.dtype, tensor.shape) != (other.dtype, other.shape):
        return False
    mine, its = (value.detach().contiguous().reshape(-1).view(torch.uint8) for value in (tensor, other))
    return torch.equal(mine, its.to(mine.device))
