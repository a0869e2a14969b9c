"""What a checkpoint's pickle may name, and what zoo makes of it: records of tensors, never the objects themselves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from zoo.errors import InputError
from zoo.formats.dtypes import BITS, FROM_NUMPY, STORAGE_DTYPES, TORCH_DTYPES
from zoo.formats.entry import is_possible
from zoo.formats.pickle_reader import Data, Global, Record, as_table

_DTYPES = {Global("torch", name): dtype for dtype, name in TORCH_DTYPES.items()}
_STORAGE_MODULES = {"torch", "torch.storage", "torch.cuda"}

# What torch.load(weights_only=True) knows, beside plain containers of data: they stay records.
_ALLOWED = {
    "collections": {"OrderedDict", "defaultdict", "Counter", "deque"},
    "builtins": {"set", "frozenset", "bytearray", "bytes", "complex", "slice", "range", "list", "tuple", "dict", "int",
                 "float", "str", "bool", "object"},
    "copyreg": {"_reconstructor"},
    "_codecs": {"encode"},
    "argparse": {"Namespace"},
    "types": {"SimpleNamespace"},
    "pathlib": {"Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath"},
    "datetime": {"datetime", "date", "time", "timedelta", "timezone"},
    "numpy": {"dtype", "ndarray"},
    "numpy.core.multiarray": {"scalar", "_reconstruct"},
    "numpy.core.numeric": {"_frombuffer"},
    "torch": {
        "Size", "Tensor", "device", "strided", "sparse_coo", "per_tensor_affine", "per_channel_affine",
        "per_tensor_symmetric", "per_channel_symmetric", "per_channel_affine_float_qparams", "qint8", "quint8",
        "qint32", "quint4x2", "quint2x4", "complex128", "complex32", "bits8", "bits16", "float4_e2m1fn_x2",
    },
    "torch.nn.parameter": {"Parameter", "Buffer"},
    "torch.serialization": {"_get_layout"},
    "torch.storage": {"_load_from_bytes"},
    "torch._tensor": {"_rebuild_from_type_v2"},
    "torch._utils": {
        "_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter",
        "_rebuild_parameter_with_state", "_rebuild_qtensor", "_rebuild_sparse_tensor", "_rebuild_nested_tensor",
        "_rebuild_meta_tensor_no_storage",
    },
}  # fmt: skip
_ALIASES = {
    "__builtin__": "builtins", "copy_reg": "copyreg", "pathlib._local": "pathlib",
    "numpy._core.multiarray": "numpy.core.multiarray", "numpy._core.numeric": "numpy.core.numeric",
}  # fmt: skip

_HARMFUL_MODULES = {
    "os", "posix", "nt", "subprocess", "commands", "popen2", "pty", "runpy", "socket", "shutil", "ctypes", "code",
    "webbrowser", "importlib", "imp", "pkgutil", "pip", "pdb", "timeit", "cProfile", "profile", "trace", "urllib",
    "http", "ftplib", "smtplib", "requests", "httpx", "marshal", "signal",
}  # fmt: skip
_HARMFUL_BUILTINS = {"eval", "exec", "execfile", "compile", "open", "file", "input", "breakpoint", "__import__"}


def is_allowed(named: Global) -> bool:
    """Whether a checkpoint may name this without a word; everything allowed is data, nothing of it is ever called."""
    module = _ALIASES.get(named.module, named.module)
    if module in _STORAGE_MODULES and named.name.endswith("Storage"):
        return True
    return named.name in _ALLOWED.get(module, ()) or named in _DTYPES or module == "numpy.dtypes"


def is_harmful(named: Global) -> bool:
    """Whether only an attack has a use for this in a checkpoint. Nothing of it is run either way: whoever made such a
    file is not to be trusted with the rest of it."""
    module = _ALIASES.get(named.module, named.module)
    return module.partition(".")[0] in _HARMFUL_MODULES or (module == "builtins" and named.name in _HARMFUL_BUILTINS)


class OrderedTable(dict[Any, Any]):
    """What an OrderedDict becomes: the mark of a state dict that torch made."""


@dataclass(frozen=True, slots=True)
class StorageRecord:
    """A storage that a pickle refers to: `numel` elements from element `start` of the data under `key`.

    `data` is where the pickle itself contains them; otherwise they lie in the archive, or behind the pickle.
    """

    key: str
    storage_class: str
    numel: int
    start: int = 0
    data: Data | bytes | None = None


class FoundTensor:
    """A tensor that a file describes, whose bytes are still there."""

    __slots__ = ()
    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(eq=False, slots=True)
class TensorRecord(FoundTensor):
    """A tensor that a pickle describes: a strided view of a storage; offset and strides count elements."""

    storage: StorageRecord
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    big_endian: bool = False

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


@dataclass(frozen=True, slots=True)
class Unstorable:
    """A tensor that is there, and that no safetensors file can contain; `why` says what it is."""

    why: str


_UNSTORABLE = {
    "_rebuild_qtensor": "quantized", "_rebuild_sparse_tensor": "sparse", "_rebuild_nested_tensor": "nested",
    "_rebuild_meta_tensor_no_storage": "on the meta device (it has no data)",
}  # fmt: skip


def resolve(function: Global, arguments: tuple[Any, ...]) -> Any:
    """What calling `function` gives: a tensor record, a plain container, bytes, or a `Record` of the call."""
    match Global(_ALIASES.get(function.module, function.module), function.name):
        case Global("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2"):
            storage, offset, shape, stride, *rest = arguments
            return _tensor(storage, None, offset, shape, stride, rest[2] if len(rest) > 2 else None)
        case Global("torch._utils", "_rebuild_tensor_v3"):
            storage, offset, shape, stride, _, _, dtype, *rest = arguments
            return _tensor(storage, dtype, offset, shape, stride, rest[0] if rest else None)
        case Global("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state"):
            return arguments[0]
        case Global("torch._utils", name) if name.startswith("_rebuild_"):
            return Unstorable(_UNSTORABLE.get(name, f"of an unknown kind ({name})"))
        case Global("torch._tensor", "_rebuild_from_type_v2"):
            return _typed(arguments)
        case Global("torch", "Size"):
            return _shape(arguments[0])
        case Global("_codecs", "encode") if arguments[1:] in (("latin1",), ("latin-1",)):
            return as_bytes(arguments[0])
        case Global(module, name) if name in _CONTAINERS.get(module, ()):
            return _container(name, arguments)
    return Record(function, arguments)


_CONTAINERS = {
    "collections": {"OrderedDict", "defaultdict", "Counter", "deque"},
    "builtins": {"list", "tuple", "set", "frozenset", "bytes", "bytearray"},
}


def _container(name: str, arguments: tuple[Any, ...]) -> Any:
    """Python's own containers, of what they are made from; what a defaultdict makes new values of does not matter."""
    if name in ("defaultdict", "Counter", "OrderedDict"):
        of = arguments[1:] if name == "defaultdict" else arguments
        table = as_table(of[0].items() if isinstance(of[0], dict) else of[0]) if of else {}
        return OrderedTable(table) if name == "OrderedDict" else table
    content = arguments[0] if arguments else ()
    if name in ("bytes", "bytearray"):
        return as_bytes(content) if content else b""
    if not isinstance(content, list | tuple):
        raise ValueError(f"{name} is made of no list")
    return tuple(content) if name == "tuple" else list(content)


def _typed(arguments: tuple[Any, ...]) -> Any:
    """A tensor of a subclass, as the plain one that it is."""
    function, _, inner, *_ = arguments
    if not isinstance(function, Global) or not isinstance(inner, tuple):
        raise ValueError("a tensor's subclass is rebuilt from no call")
    if function == Global("torch._tensor", "_rebuild_from_type_v2"):
        raise ValueError("a tensor's subclass is rebuilt twice")
    return resolve(function, inner)


def as_bytes(value: Any) -> Data | bytes:
    """Bytes that a pickle spells out: as they are, or one letter a byte. Raises ValueError for anything else."""
    if isinstance(value, str):
        return value.encode("latin-1")
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if isinstance(value, Data):
        return value
    raise ValueError("what should be bytes is something else")


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


def _shape(sizes: Any) -> tuple[int, ...]:
    if not isinstance(sizes, list | tuple) or len(sizes) > 64:
        raise ValueError("a tensor's sizes are no short list")
    return tuple(sizes)


def _tensor(store: Any, dtype: Any, offset: Any, shape: Any, stride: Any, flags: Any) -> TensorRecord | Unstorable:
    """The checked record: sizes and strides are counts, and the view stays inside its storage."""
    if not isinstance(store, StorageRecord):
        raise ValueError("a tensor without a storage")
    if not isinstance(shape, tuple) or not isinstance(stride, tuple) or len(shape) != len(stride) or len(shape) > 64:
        raise ValueError("a tensor's sizes and strides do not fit each other")
    if not all(_is_count(number) for number in (offset, *shape, *stride)):
        raise ValueError("a tensor's sizes, strides and offset must be counts")
    known = _dtype(store, dtype)
    if known is None:
        return Unstorable(f"of {dtype if isinstance(dtype, Global) else store.storage_class}")
    if flags:
        return Unstorable("lazily conjugated or negated (save .resolve_conj().resolve_neg() instead)")
    if not is_possible(shape, known):
        raise ValueError(f"a tensor of the impossible shape {shape}")
    record = TensorRecord(store, known, offset, shape, stride)
    unit = 1 if store.storage_class == "UntypedStorage" else BITS[known] // 8
    if (offset + record.span) * (BITS[known] // 8) > store.numel * unit:
        raise ValueError(f"a tensor of shape {shape} reaches beyond its storage of {store.numel:,} elements")
    return record


def _dtype(store: StorageRecord, dtype: Any) -> str | None:
    if dtype is None:
        return STORAGE_DTYPES.get(store.storage_class)
    return _DTYPES.get(dtype) if isinstance(dtype, Global) else None


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


_RECONSTRUCT = Global("numpy.core.multiarray", "_reconstruct")
_FROM_BUFFER = Global("numpy.core.numeric", "_frombuffer")
_NUMPY = {code.lstrip("<"): name for code, name in FROM_NUMPY.items() if code} | {"b1": "BOOL", "V2": "BF16"}


def as_tensor(value: Any) -> Any:
    """A NumPy array in a pickle as a tensor record (two raw bytes are how JAX writes bfloat16), or as `Unstorable`.

    Anything else comes back as it is. Raises InputError for an array that its bytes do not fill.
    """
    if not isinstance(value, Record):
        return value
    made_by = Global(_ALIASES.get(value.made_by.module, value.made_by.module), value.made_by.name)
    try:
        if made_by == _FROM_BUFFER:
            data, dtype, shape, order, *_ = value.arguments
            return _array(value, data, dtype, shape, fortran=order == "F")
        if made_by == _RECONSTRUCT and isinstance(value.state, tuple):
            shape, dtype, fortran, data = value.state[-4:]
            return _array(value, data, dtype, shape, fortran=bool(fortran))
    except ValueError as error:
        raise InputError(f"a NumPy array in it is damaged: {error}") from error
    return value


def _array(value: Record, data: Any, dtype: Any, shape: Any, *, fortran: bool) -> TensorRecord | Unstorable:
    code, order = _numpy_code(dtype)
    known = _NUMPY.get(code)
    if known is None:
        return Unstorable(f"a NumPy array of {'Python objects' if code.startswith('O') else f'the type {code}'}")
    if not isinstance(shape, tuple) or len(shape) > 64 or not all(map(_is_count, shape)):
        raise ValueError("its shape is none")
    if not is_possible(shape, known):
        raise ValueError("its shape is impossible")
    content, item = as_bytes(data), BITS[known] // 8
    nbytes, wanted = content.nbytes if isinstance(content, Data) else len(content), math.prod(shape) * item
    encoded = isinstance(content, Data) and content.latin1  # each byte takes one or two
    if not (wanted <= nbytes <= 2 * wanted if encoded else nbytes == wanted):
        raise ValueError(f"it has {nbytes:,} bytes where its shape needs {wanted:,}")
    store = StorageRecord(f"array {id(value)}", "UntypedStorage", wanted, 0, content)
    return TensorRecord(store, known, 0, shape, _strides(shape, fortran), big_endian=order == ">")


def _numpy_code(dtype: Any) -> tuple[str, str]:
    """`f4` and `<` of a pickled numpy dtype; raises ValueError where it is none."""
    if not isinstance(dtype, Record) or dtype.made_by != Global("numpy", "dtype") or not dtype.arguments:
        raise ValueError("it has no dtype")
    code = dtype.arguments[0]
    order = dtype.state[1] if isinstance(dtype.state, tuple) and len(dtype.state) > 1 else "<"
    if isinstance(code, Global):  # ml_dtypes: a class of its own for each
        code = "V2" if code.name == "bfloat16" else str(code)
    if not isinstance(code, str):
        raise ValueError("its dtype has no name")
    return code[:40], order


def _strides(shape: tuple[int, ...], fortran: bool) -> tuple[int, ...]:
    """Elements from one position to the next, in each axis of an array without gaps."""
    strides, step = [], 1
    for size in shape if fortran else reversed(shape):
        strides.append(step)
        step *= size
    return tuple(strides if fortran else reversed(strides))
