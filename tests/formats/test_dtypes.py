"""The table of dtypes, golden against what torch and safetensors say of each."""

from __future__ import annotations

import json
import re
import warnings

import numpy as np
import pytest
import safetensors.torch
import torch

from zoo.formats.dtypes import (
    BITS,
    DTYPES,
    FLOATING,
    FROM_NUMPY,
    NUMPY_DTYPES,
    STORAGE_BYTES,
    STORAGE_DTYPES,
    TORCH_DTYPES,
    DType,
    torch_name,
    written_dtype,
)
from zoo.formats.tensors import NAMES

TORCH = {str(value).removeprefix("torch."): value for value in vars(torch).values() if isinstance(value, torch.dtype)}
UNSTORABLE = re.compile(r"b?complex(32|128)|bits\d+(x\d)?|qu?int\d+(x\d)?|u?int[1-7]|float4_e2m1fn_x2")
"""What torch has and safetensors has no word for, and packed elements (float4_e2m1fn_x2: two in a byte)."""


def header_dtype(dtype: torch.dtype) -> str:
    """What safetensors itself writes of a tensor of this dtype."""
    written = safetensors.torch.save({"x": torch.zeros(2, dtype=dtype)})
    length = int.from_bytes(written[:8], "little")
    return str(json.loads(written[8 : 8 + length])["x"]["dtype"])


def test_every_dtype_of_torch_is_in_the_table_or_cannot_be_stored() -> None:
    assert {name for name in TORCH if not UNSTORABLE.fullmatch(name)} == set(TORCH_DTYPES.values())
    assert {name for name in TORCH if UNSTORABLE.fullmatch(name)} & set(TORCH_DTYPES.values()) == set()
    assert {dtype: str(kind).removeprefix("torch.") for kind, dtype in NAMES.items()} == TORCH_DTYPES


@pytest.mark.parametrize("name", TORCH_DTYPES)
def test_torch_and_safetensors_agree_with_the_table(name: str) -> None:
    dtype, row = TORCH[TORCH_DTYPES[name]], DTYPES[name]
    assert header_dtype(dtype) == name
    assert row.bits == 8 * dtype.itemsize
    assert row.is_float == dtype.is_floating_point
    assert row.numpy is not None
    assert np.dtype(row.numpy).itemsize == dtype.itemsize
    if row.is_native:
        assert torch.zeros(1, dtype=dtype).numpy().dtype == np.dtype(row.numpy)
    else:
        with pytest.raises(TypeError):
            torch.zeros(1, dtype=dtype).numpy()


def test_every_dtype_that_safetensors_reads_is_in_the_table() -> None:
    header = b'{"x":{"dtype":"?","shape":[],"data_offsets":[0,0]}}'
    with pytest.raises(safetensors.SafetensorError, match="unknown variant") as refused:
        safetensors.deserialize(len(header).to_bytes(8, "little") + header)
    listed = re.findall(r"`(\w+)`", str(refused.value).split("expected one of")[1])
    assert set(listed) == set(DTYPES)


def test_storages_are_those_that_torch_has() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TypedStorage is deprecated, and pickles still name its kinds
        kinds = {
            name: getattr(torch, name).dtype
            for name in dir(torch)
            if name.endswith("Storage") and name not in ("Storage", "TypedStorage", "UntypedStorage")
        }
    assert {name: kind.itemsize for name, kind in kinds.items()} | {"UntypedStorage": 1} == STORAGE_BYTES
    stored = {name: NAMES[kind] for name, kind in kinds.items() if kind in NAMES}
    assert stored | {"UntypedStorage": "U8"} == STORAGE_DTYPES


@pytest.mark.parametrize("name", DTYPES)
def test_a_wider_dtype_holds_every_value(name: str) -> None:
    narrow = DTYPES[name]
    for wider in narrow.wider:
        kind, wide = TORCH[torch_name(name)], TORCH[torch_name(wider)]
        limits = torch.finfo(kind) if narrow.is_float else torch.iinfo(kind)
        steps = [limits.min, limits.max, 1, *((limits.eps, limits.tiny) if narrow.is_float else ())]
        values = torch.tensor(steps, dtype=kind)
        assert torch.equal(values.to(wide).to(kind), values)
        assert values.to(wide).double().tolist() == values.double().tolist()


def test_derived_tables() -> None:
    assert {name: dtype.bits for name, dtype in DTYPES.items()} == BITS
    assert set(DTYPES) - set(NUMPY_DTYPES) == {"F4", "F6_E2M3", "F6_E3M2"}
    assert "BF16" not in FROM_NUMPY.values()
    assert FROM_NUMPY["<f4"] == "F32"
    assert "C64" not in FLOATING
    assert len({word for dtype in DTYPES.values() for word in dtype.aliases}) == sum(
        len(dtype.aliases) for dtype in DTYPES.values()
    )


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_what_people_type(dtype: DType) -> None:
    castable = dtype.name if dtype.numpy else None
    assert written_dtype(dtype.name) == castable
    for word in dtype.aliases:
        assert written_dtype(word) == written_dtype(f"torch.{word}") == castable
        if hasattr(torch, word):  # torch.half, not torch.bf16
            assert TORCH[str(dtype.torch)] is getattr(torch, word)
    if dtype.torch:
        assert written_dtype(dtype.torch) == written_dtype(f"torch.{dtype.torch}") == castable
        assert torch_name(dtype.name) == dtype.torch


def test_no_dtype() -> None:
    assert written_dtype("float33") is None
    assert torch_name("F4") == "F4"
