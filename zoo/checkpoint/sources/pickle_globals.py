"""What a checkpoint's pickle may name, and what zoo makes of it: records of tensors, never the objects themselves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from zoo.checkpoint.header import BITS
from zoo.checkpoint.sources.pickle_machine import Global, Record, as_table
from zoo.checkpoint.sources.source import TORCH_DTYPES
from zoo.errors import InputError

STORAGE_DTYPES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL", "ComplexFloatStorage": "C64", "UntypedStorage": "U8",
}  # fmt: skip
"""Storage class -> dtype; complex128 and the quantized storages have none, safetensors cannot hold them."""

_DTYPES = {Global("torch", name): dtype for dtype, name in TORCH_DTYPES.items()}
_STORAGE_MODULES = {"torch", "torch.storage", "torch.cuda"}

# What torch.load(weights_only=True) knows, beside data holders that do nothing: they stay records.
_ALLOWED = {
    "collections": {"OrderedDict", "defaultdict", "Counter", "deque"},
    "builtins": {"set", "frozenset", "bytearray", "complex", "slice", "range"},
    "_codecs": {"encode"},
    "argparse": {"Namespace"},
    "types": {"SimpleNamespace"},
    "pathlib": {"Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath"},
    "datetime": {"datetime", "date", "time", "timedelta", "timezone"},
    "numpy": {"dtype", "ndarray"},
    "numpy.core.multiarray": {"scalar", "_reconstruct"},
    "torch": {"Size", "Tensor", "device", "per_tensor_affine", "per_channel_affine", "strided", "sparse_coo"},
    "torch.nn.parameter": {"Parameter", "Buffer"},
    "torch.serialization": {"_get_layout"},
    "torch._tensor": {"_rebuild_from_type_v2"},
    "torch._utils": {
        "_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter",
        "_rebuild_parameter_with_state", "_rebuild_qtensor", "_rebuild_sparse_tensor", "_rebuild_nested_tensor",
        "_rebuild_meta_tensor_no_storage",
    },
}  # fmt: skip
_ALIASES = {"__builtin__": "builtins", "numpy._core.multiarray": "numpy.core.multiarray", "pathlib._local": "pathlib"}


class OrderedTable(dict[Any, Any]):
    """What an OrderedDict becomes: the mark of a state dict that torch made."""


@dataclass(frozen=True, slots=True)
class StorageRecord:
    """A storage that a pickle refers to: `numel` elements from element `start` of the data under `key`."""

    key: str
    storage_class: str
    numel: int
    start: int = 0


@dataclass(eq=False, slots=True)
class TensorRecord:
    """A tensor that a pickle describes: a strided view of a storage; offset and strides count elements."""

    storage: StorageRecord
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def is_contiguous(self) -> bool:
        expected = 1
        for size, step in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if size != 1 and step != expected:
                return self.elements == 0
            expected *= size
        return True

    @property
    def span(self) -> int:
        """How many elements of the storage lie between the tensor's first and its last."""
        if not self.elements:
            return 0
        return 1 + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))


def is_allowed(named: Global) -> bool:
    """Whether a checkpoint may name this; everything allowed is data, nothing of it is ever called."""
    module = _ALIASES.get(named.module, named.module)
    if module in _STORAGE_MODULES and named.name.endswith("Storage"):
        return True
    return named.name in _ALLOWED.get(module, ()) or named in _DTYPES or module == "numpy.dtypes"


def resolve(function: Global, arguments: tuple[Any, ...]) -> Any:
    """What calling `function` gives: a tensor record, a dict, a tuple, or a `Record` of the call."""
    match function:
        case Global("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2"):
            storage, offset, shape, stride, *rest = arguments
            return _tensor(storage, None, offset, shape, stride, rest[2] if len(rest) > 2 else None)
        case Global("torch._utils", "_rebuild_tensor_v3"):
            storage, offset, shape, stride, _, _, dtype, *rest = arguments
            return _tensor(storage, dtype, offset, shape, stride, rest[0] if rest else None)
        case Global("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state"):
            return arguments[0]
        case Global("torch._tensor", "_rebuild_from_type_v2"):
            return resolve(arguments[0], arguments[2])
        case Global("collections", "OrderedDict"):
            return OrderedTable(as_table(arguments[0]) if arguments else {})
        case Global("torch", "Size"):
            return tuple(arguments[0])
    return Record(function, arguments)


def storage(identifier: Any) -> StorageRecord | Global:
    """What a persistent id means: a storage, or (in files before torch 1.0) the class of a pickled module."""
    kind, *rest = identifier
    if kind == "module" and isinstance(rest[0], Global):
        return rest[0]
    if kind != "storage" or not isinstance(rest[0], Global):
        raise ValueError("a persistent id is neither a storage nor a module")
    storage_class, key, _, numel, *view = rest
    start = view[0][1] if view and view[0] is not None else 0
    if not isinstance(key, str) or not _is_count(numel) or not _is_count(start):
        raise ValueError("a storage has no proper key or size")
    return StorageRecord(key, storage_class.name, numel, start)


def _tensor(store: Any, dtype: Any, offset: Any, shape: Any, stride: Any, flags: Any) -> TensorRecord:
    """The checked record: sizes and strides are counts, and the view stays inside its storage."""
    if not isinstance(store, StorageRecord):
        raise ValueError("a tensor without a storage")
    if not isinstance(shape, tuple) or not isinstance(stride, tuple) or len(shape) != len(stride) or len(shape) > 64:
        raise ValueError("a tensor's sizes and strides do not fit each other")
    if not all(_is_count(number) for number in (offset, *shape, *stride)):
        raise ValueError("a tensor's sizes, strides and offset must be counts")
    if flags:
        raise InputError("it holds a lazily conjugated or negated tensor; save .resolve_conj().resolve_neg() instead")
    record = TensorRecord(store, _dtype(store, dtype), offset, shape, stride)
    unit = 1 if store.storage_class == "UntypedStorage" else BITS[record.dtype] // 8
    if (offset + record.span) * (BITS[record.dtype] // 8) > store.numel * unit:
        raise ValueError(f"a tensor of shape {shape} reaches beyond its storage of {store.numel:,} elements")
    return record


def _dtype(store: StorageRecord, dtype: Any) -> str:
    if dtype is None and store.storage_class in STORAGE_DTYPES:
        return STORAGE_DTYPES[store.storage_class]
    if isinstance(dtype, Global) and dtype in _DTYPES:
        return _DTYPES[dtype]
    name = str(dtype) if isinstance(dtype, Global) else store.storage_class
    raise InputError(f"it holds a tensor of {name}, a type that safetensors files cannot hold")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63
