"""Casts against torch's, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo.formats.casting import cast
from zoo.formats.tensors import NAMES, same_bits, to_array, to_tensor

FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
SMALL = [torch.float8_e4m3fn, torch.float8_e5m2]


def samples(dtype: torch.dtype) -> torch.Tensor:
    """Numbers of every magnitude, halfway cases, infinities, zeros and NaN."""
    generator = torch.Generator().manual_seed(0)
    exponents = torch.randint(-45, 45, (20_000,), generator=generator)
    numbers = torch.randn(20_000, generator=generator, dtype=torch.float64) * 2.0**exponents
    halfway = torch.arange(20_000).double() * 2.0**-9 + 1
    special = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, 1e300, -1e300, 65504, 65520, 2.0**-149])
    return torch.cat([numbers, halfway, special.double()]).to(dtype)


@pytest.mark.parametrize("source", FLOATS)
@pytest.mark.parametrize("target", FLOATS)
def test_floats(source: torch.dtype, target: torch.dtype) -> None:
    tensor = samples(source)
    made = to_tensor(cast(to_array(tensor), NAMES[source], NAMES[target]), NAMES[target])
    assert same_bits(made, tensor.to(target))


def test_every_bfloat16_survives_float32_and_back() -> None:
    bits = np.arange(2**16, dtype="u2")
    back = cast(cast(bits, "BF16", "F32"), "F32", "BF16")
    quiet = np.isnan(cast(bits, "BF16", "F32"))
    assert np.array_equal(back[~quiet], bits[~quiet])
    assert np.isnan(cast(back[quiet], "BF16", "F32")).all()


def test_a_nan_with_its_payload_below_stays_a_nan() -> None:
    bits = np.array([0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F80FFFF], "u4")
    assert np.isnan(cast(cast(bits.view("f4"), "F32", "BF16"), "BF16", "F32")).all()
    assert np.isnan(cast(bits.view("f4"), "F32", "F16")).all()


@pytest.mark.parametrize("small", SMALL)
def test_eight_bit_floats(small: torch.dtype) -> None:
    tensor = torch.randn(1000).to(small)
    wide = cast(to_array(tensor), NAMES[small], "F32")
    assert np.array_equal(wide, tensor.float().numpy())
    assert same_bits(to_tensor(cast(wide, "F32", NAMES[small]), NAMES[small]), tensor)


def test_integers() -> None:
    assert cast(np.array([1.7, -1.7], "f4"), "F32", "I64").tolist() == [1, -1]
    assert cast(np.array([3, 0], "i8"), "I64", "BOOL").tolist() == [True, False]
