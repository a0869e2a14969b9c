"""Reads a pickle without running anything it asks for: every class and every call becomes a plain record.

The second half says what a checkpoint's pickle may name, and what zoo makes of it: records of tensors, never the
objects themselves.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from zoo.errors import InputError
from zoo.formats.dtypes import BITS, STORAGE_DTYPES, TORCH_DTYPES


@dataclass(frozen=True, slots=True)
class Global:
    """A class or function that the pickle names; nothing was imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False, slots=True)
class Record:
    """An object that was not made: what would have been called, with what, and the state it would have got."""

    made_by: Global
    arguments: tuple[Any, ...] = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)


_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_KEYS = (str, int, float, bytes, bool, type(None))


def as_table(pairs: Iterable[Any]) -> dict[Any, Any]:
    """A dict of the pairs whose keys are flat; hashing a deeply nested tuple can overflow the interpreter's stack."""
    return {key: value for key, value in pairs if isinstance(key, _KEYS)}


class PickleMachine:
    """Reads one pickle from `file`, which then stands after the pickle's last byte.

    `resolve(function, arguments)` answers what a call gives and `persistent(identifier)` what a persistent id
    means. `globals` collects every class and function that was named.
    """

    def __init__(
        self, file: BinaryIO, resolve: Callable[[Global, tuple[Any, ...]], Any], persistent: Callable[[Any], Any]
    ) -> None:
        self.file = file
        self.resolve = resolve
        self.persistent = persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.globals: dict[Global, None] = {}

    def run(self) -> Any:
        """The object the pickle describes. Raises InputError where the pickle is damaged."""
        try:
            for opcode, argument, _ in pickletools.genops(self.file):
                if opcode.name == "STOP":
                    return self.stack.pop()
                self._step(opcode.name, argument)
        except (
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            ArithmeticError,
            MemoryError,
            RecursionError,
        ) as error:
            raise InputError(f"its pickle is damaged ({type(error).__name__}: {error})") from error
        raise InputError("its pickle has no end")

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self.memo[argument])
        elif name == "MARK":
            stack.append(_MARK)
        elif name not in ("PROTO", "FRAME") and not self._container(name) and not self._object(name, argument):
            raise ValueError(f"the instruction {name} has no place in a checkpoint")

    def _container(self, name: str) -> bool:
        """Makes and fills tuples, lists, dicts and sets (sets as lists: nothing here needs to hash)."""
        stack = self.stack
        match name:
            case "TUPLE" | "FROZENSET":
                stack.append(tuple(self._run_of_items()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "LIST":
                stack.append(self._run_of_items())
            case "APPEND":
                self._extend([stack.pop()])
            case "APPENDS" | "ADDITEMS":
                self._extend(self._run_of_items())
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                items = self._run_of_items()
                stack.append({})
                self._update(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                self._update([key, value])
            case "SETITEMS":
                self._update(self._run_of_items())
            case "POP":
                stack.pop()
            case "POP_MARK":
                self._run_of_items()
            case "DUP":
                stack.append(stack[-1])
            case _:
                return False
        return True

    def _object(self, name: str, argument: Any) -> bool:
        """Names, calls, states and persistent ids."""
        stack = self.stack
        match name:
            case "GLOBAL":
                stack.append(self._named(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                stack.append(self._named(module, attribute))
            case "INST":
                items = self._run_of_items()
                self._call(self._named(*argument.split(" ", 1)), tuple(items))
            case "OBJ":
                function, *items = self._run_of_items()
                self._call(function, tuple(items))
            case "REDUCE" | "NEWOBJ":
                arguments, function = stack.pop(), stack.pop()
                self._call(function, arguments)
            case "NEWOBJ_EX":
                keywords, arguments, function = stack.pop(), stack.pop(), stack.pop()
                self._call(function, (*arguments, keywords))
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], Record):
                    stack[-1].state = state
            case "PERSID":
                stack.append(self.persistent(argument))
            case "BINPERSID":
                stack.append(self.persistent(stack.pop()))
            case _:
                return False
        return True

    def _run_of_items(self) -> list[Any]:
        """Takes what lies above the last mark off the stack, and the mark."""
        position = len(self.stack) - 1
        while self.stack[position] is not _MARK:
            position -= 1
        items = self.stack[position + 1 :]
        del self.stack[position:]
        return items

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Record):
            target.items.update(enumerate(items, len(target.items)))
        else:
            target.extend(items)

    def _update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        table = target.items if isinstance(target, Record) else target
        table.update(as_table(zip(items[::2], items[1::2], strict=True)))

    def _named(self, module: Any, attribute: Any) -> Global:
        if not isinstance(module, str) or not isinstance(attribute, str):
            raise ValueError("it names a class by something that is not text")
        named = Global(module, attribute)
        self.globals[named] = None
        return named

    def _call(self, function: Any, arguments: Any) -> None:
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise ValueError("it calls something that is no class or function")
        self.stack.append(self.resolve(function, arguments))


_DTYPES = {Global("torch", name): dtype for dtype, name in TORCH_DTYPES.items()}
_STORAGE_MODULES = {"torch", "torch.storage", "torch.cuda"}

# What torch.load(weights_only=True) knows, beside plain containers of data: they stay records.
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
        raise InputError("a tensor in it is lazily conjugated or negated; save .resolve_conj().resolve_neg() instead")
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
    raise InputError(f"it contains a tensor of {name}, a type that safetensors files cannot contain")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63
