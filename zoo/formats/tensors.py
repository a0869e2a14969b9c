"""Between torch tensors and numpy arrays that carry their bits; imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from zoo.errors import InputError
from zoo.formats.dtypes import NUMPY_DTYPES, TORCH_DTYPES
from zoo.formats.entry import Entry

if TYPE_CHECKING:
    import numpy as np


DTYPES = {getattr(torch, name): dtype for dtype, name in TORCH_DTYPES.items() if hasattr(torch, name)}
_CARRIERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def entry(name: str, tensor: torch.Tensor) -> Entry:
    """Name, dtype and shape of `tensor`. Raises InputError for a dtype that safetensors does not have."""
    if tensor.dtype not in DTYPES:
        raise InputError(f"tensor {name!r} has the dtype {tensor.dtype}, which a safetensors file cannot hold")
    return Entry(name, DTYPES[tensor.dtype], tuple(tensor.shape))


def to_tensor(array: np.ndarray[Any, Any], dtype: str) -> torch.Tensor:
    """The tensor of dtype `dtype` (safetensors' spelling) whose bits `array` carries; they share memory."""
    tensor = torch.from_numpy(array)
    wanted: torch.dtype = getattr(torch, TORCH_DTYPES[dtype])
    return tensor if tensor.dtype == wanted else tensor.view(wanted)


def to_array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """The bits of a CPU tensor as an array that numpy can hold (bfloat16 as integers), contiguous."""
    tensor = tensor.detach().contiguous()
    if tensor.dtype.is_complex or tensor.dtype == torch.bool:
        return tensor.numpy()
    carried: np.ndarray[Any, Any] = tensor.view(_CARRIERS[tensor.element_size()]).numpy()
    return carried.view(NUMPY_DTYPES[DTYPES[tensor.dtype]])


def same_bits(tensor: torch.Tensor, other: torch.Tensor | None) -> bool:
    """Whether both hold the same dtype, shape and bits: NaN equals itself, 0 and -0 differ. On any device."""
    if other is None or (tensor.dtype, tensor.shape) != (other.dtype, other.shape):
        return False
    mine, its = (value.detach().contiguous().reshape(-1).view(torch.uint8) for value in (tensor, other))
    return torch.equal(mine, its.to(mine.device))
