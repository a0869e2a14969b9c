"""The dtypes of tensors in files, once for everything in zoo: their names, sizes, numpy and torch counterparts.

`DTYPES` is the table. Whatever else sorts or translates dtypes is derived from it, below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class DType:
    """A dtype that a safetensors file can store.

    Attributes:
        name: safetensors' spelling, by which zoo names it everywhere.
        bits: bits an element.
        numpy: the numpy dtype whose items carry the bits; None where elements are not full bytes.
        torch: the attribute of `torch` that it is; None where torch has no tensor of such elements.
        is_float: whether it is a floating-point type (complex is not).
        storage: the class by which torch.save's pickles name a storage of it.
        aliases: what people type beside torch's name and safetensors'.
        wider: the dtypes that hold every value of it, so that casting there and back changes nothing.
    """

    name: str
    bits: int
    numpy: str | None = None
    torch: str | None = None
    is_float: bool = False
    storage: str | None = None
    aliases: tuple[str, ...] = ()
    wider: tuple[str, ...] = ()

    @property
    def is_native(self) -> bool:
        """Whether numpy computes with it; bfloat16 and the 8-bit floats are carried as integers of the same bits."""
        return self.numpy is not None and (not self.is_float or "f" in self.numpy)


_TABLE = (
    DType("BOOL", 8, "?", "bool", storage="BoolStorage"),
    DType("F4", 4, is_float=True),
    DType("F6_E2M3", 6, is_float=True),
    DType("F6_E3M2", 6, is_float=True),
    DType("U8", 8, "u1", "uint8", storage="ByteStorage", wider=("I16", "I32", "I64")),
    DType("I8", 8, "i1", "int8", storage="CharStorage", wider=("I16", "I32", "I64")),
    DType("F8_E5M2", 8, "u1", "float8_e5m2", is_float=True),
    DType("F8_E4M3", 8, "u1", "float8_e4m3fn", is_float=True),
    DType("F8_E8M0", 8, "u1", "float8_e8m0fnu", is_float=True),
    DType("F8_E4M3FNUZ", 8, "u1", "float8_e4m3fnuz", is_float=True),
    DType("F8_E5M2FNUZ", 8, "u1", "float8_e5m2fnuz", is_float=True),
    DType("I16", 16, "<i2", "int16", storage="ShortStorage", aliases=("short",), wider=("I32", "I64")),
    DType("U16", 16, "<u2", "uint16"),
    DType("F16", 16, "<f2", "float16", True, "HalfStorage", ("half", "fp16"), ("F32", "F64")),
    DType("BF16", 16, "<u2", "bfloat16", True, "BFloat16Storage", ("bf16",), ("F32", "F64")),
    DType("I32", 32, "<i4", "int32", storage="IntStorage", aliases=("int",), wider=("I64",)),
    DType("U32", 32, "<u4", "uint32"),
    DType("F32", 32, "<f4", "float32", True, "FloatStorage", ("float", "fp32"), ("F64",)),
    DType("C64", 64, "<c8", "complex64", storage="ComplexFloatStorage", aliases=("cfloat",)),
    DType("F64", 64, "<f8", "float64", True, "DoubleStorage", ("double", "fp64")),
    DType("I64", 64, "<i8", "int64", storage="LongStorage", aliases=("long",)),
    DType("U64", 64, "<u8", "uint64"),
)

DTYPES: Final = {dtype.name: dtype for dtype in _TABLE}
"""The table by name, in upstream's order of alignment: safetensors' writer puts tensors of the last dtype first."""

BITS: Final = {name: dtype.bits for name, dtype in DTYPES.items()}
"""Bits an element."""

NUMPY_DTYPES: Final = {name: dtype.numpy for name, dtype in DTYPES.items() if dtype.numpy is not None}
"""The numpy dtype that carries each dtype's bits; what numpy does not know (BF16, F8_*) is carried as integers."""

TORCH_DTYPES: Final = {name: dtype.torch for name, dtype in DTYPES.items() if dtype.torch is not None}
"""torch's name of each dtype."""

FROM_NUMPY: Final = {dtype.numpy: name for name, dtype in DTYPES.items() if dtype.is_native}
"""The dtype of numpy's own arrays."""

FLOATING: Final = frozenset(name for name, dtype in DTYPES.items() if dtype.is_float)
"""The floating-point dtypes: what `--dtype` casts and coverage counts among buffers."""

STORAGE_DTYPES: Final = {dtype.storage: name for name, dtype in DTYPES.items() if dtype.storage is not None} | {
    "UntypedStorage": "U8"
}
"""The dtype of each storage class in torch.save's pickles."""

STORAGE_BYTES: Final = {storage: BITS[name] // 8 for storage, name in STORAGE_DTYPES.items()} | {
    "ComplexDoubleStorage": 16, "QInt8Storage": 1, "QUInt8Storage": 1, "QInt32Storage": 4, "QUInt4x2Storage": 1,
    "QUInt2x4Storage": 1,
}  # fmt: skip
"""Bytes an element of every storage class that torch has, those included whose values safetensors cannot store."""

_WRITTEN = {
    word: name for name, dtype in DTYPES.items() for word in (name, dtype.torch, *dtype.aliases) if word is not None
}


def written_dtype(text: str) -> str | None:
    """The dtype (safetensors' spelling) that `bfloat16`, `torch.bfloat16`, `bf16` or `BF16` names, None where none is.

    Only dtypes whose values can be computed with are named so: F4 and F6, whose elements are not full bytes, are not.
    """
    name = _WRITTEN.get(text.removeprefix("torch."))
    return name if name in NUMPY_DTYPES else None


def torch_name(dtype: str) -> str:
    """torch's name for a dtype in safetensors' spelling, which stays where torch has none."""
    return TORCH_DTYPES.get(dtype, dtype)
