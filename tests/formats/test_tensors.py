"""Tensors and the arrays that carry their bits."""

from __future__ import annotations

import pytest
import torch

from zoo.errors import InputError
from zoo.formats.tensors import NAMES, entry, same_bits, to_array, to_tensor


@pytest.mark.parametrize("dtype", NAMES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 4)])
def test_there_and_back(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = (torch.rand(shape) * 3).to(dtype)
    array = to_array(tensor)
    assert array.shape == shape
    assert same_bits(to_tensor(array, NAMES[dtype]), tensor)


def test_a_view_with_strides_is_gathered() -> None:
    tensor = torch.arange(6.0).reshape(2, 3).T
    assert to_array(tensor).tolist() == tensor.tolist()


def test_entry() -> None:
    found = entry("x", torch.zeros(2, 3, dtype=torch.bfloat16))
    assert (found.name, found.dtype, found.shape) == ("x", "BF16", (2, 3))
    with pytest.raises(InputError, match="complex128, which a safetensors file cannot contain"):
        entry("x", torch.zeros(1, dtype=torch.complex128))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (torch.tensor([torch.nan]), torch.tensor([torch.nan]), True),
        (torch.tensor([0.0]), torch.tensor([-0.0]), False),
        (torch.zeros(2), torch.zeros(1, 2), False),
        (torch.zeros(2), torch.zeros(2, dtype=torch.int32), False),
        (torch.zeros(2), None, False),
    ],
)
def test_same_bits(one: torch.Tensor, other: torch.Tensor | None, same: bool) -> None:
    assert same_bits(one, other) == same
