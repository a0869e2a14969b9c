"""Reads a pickle without running anything it asks for: every class and every call becomes a plain record.

What a checkpoint's records mean is `pickled_tensors`'s to say. Time and memory are bounded by `Budget`: a pickle can
repeat one long list thousands of times in a few bytes. Long bytes and texts, which are arrays, are left in the file.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from zoo.errors import InputError


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


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes that were left in the file: `nbytes` from `offset`. With `latin1` they are UTF-8 for one letter a byte."""

    offset: int
    nbytes: int
    latin1: bool = False


@dataclass(eq=False, frozen=True, slots=True)
class OddKey:
    """A key of a dict that is no text and no number; hashing a deeply nested tuple can overflow the stack."""

    key: Any


@dataclass
class Budget:
    """How many instructions are followed, and items copied, before the pickle counts as a bomb."""

    left: int = 10_000_000  # a state dict takes about 35 a tensor

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise InputError("its pickle never comes to an end: it repeats itself too often, like a bomb")


LARGE = 4096
"""Bytes and texts longer than this become `Data`."""

_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_LONG = {"BINUNICODE": 4, "BINUNICODE8": 8, "BINBYTES": 4, "BINBYTES8": 8, "BYTEARRAY8": 8, "BINSTRING": 4}
"""Instructions with data of any length, and the bytes that say how long they are."""

_OPCODES = {
    opcode.code.encode("latin-1"): (opcode.name, opcode.arg.reader if opcode.arg else None)
    for opcode in pickletools.opcodes
}
_KEYS = (str, int, float, bytes, bool, type(None))


def as_table(pairs: Iterable[Any]) -> dict[Any, Any]:
    """A dict of the pairs, whatever their keys are."""
    return {key if isinstance(key, _KEYS) else OddKey(key): value for key, value in pairs}


class PickleMachine:
    """Reads one pickle from `file`, which then stands after the pickle's last byte.

    `resolve(function, arguments)` answers what a call gives and `persistent(identifier)` what a persistent id
    means. `globals` collects every class and function that was named. `base` is added to the places of `Data`.
    """

    def __init__(
        self,
        file: BinaryIO,
        resolve: Callable[[Global, tuple[Any, ...]], Any],
        persistent: Callable[[Any], Any],
        *,
        base: int = 0,
        budget: Budget | None = None,
    ) -> None:
        self.file = file
        self.resolve = resolve
        self.persistent = persistent
        self.base = base
        self.budget = budget or Budget()
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.globals: dict[Global, None] = {}

    def run(self) -> Any:
        """The object the pickle describes. Raises InputError where the pickle is damaged."""
        try:
            return self._run()
        except (
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            ArithmeticError,
            MemoryError,
            RecursionError,
            OSError,
        ) as error:
            raise InputError(f"its pickle is damaged ({type(error).__name__}: {error})") from error

    def _run(self) -> Any:
        file, step = self.file, 0
        try:
            for step in range(1, self.budget.left + 2):  # noqa: B007 - spent below
                code = file.read(1)
                if not code:
                    raise InputError("its pickle is damaged: it has no end")
                if code not in _OPCODES:
                    raise ValueError(f"{code!r} is no instruction")
                name, reader = _OPCODES[code]
                argument = self._literal(name) if name in _LONG else reader and reader(file)
                if name == "STOP":
                    return self.stack.pop()
                self._step(name, argument)
        finally:
            self.budget.spend(step)

    def _literal(self, name: str) -> Any:
        """A text or bytes; `Data` where they are long."""
        nbytes = int.from_bytes(self.file.read(_LONG[name]), "little")
        is_text = name.startswith("BINUNICODE")
        if nbytes > LARGE:
            data = Data(self.base + self.file.tell(), nbytes, is_text)
            self.file.seek(nbytes, 1)
            return data
        content = self.file.read(nbytes)
        if len(content) < nbytes:
            raise ValueError(f"{nbytes} bytes are promised, and {len(content)} are there")
        if is_text:
            return content.decode("utf-8", "surrogatepass")
        return content.decode("latin-1") if name == "BINSTRING" else content

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
        if isinstance(function, Record):  # what a call gave is called again: a bound method, a class made on the spot
            function = function.made_by
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise ValueError("it calls something that is no class or function")
        self.budget.spend(len(arguments))
        if arguments and isinstance(arguments[0], list | tuple | dict):
            self.budget.spend(len(arguments[0]))  # what a call makes of it may be a copy
        self.stack.append(self.resolve(function, arguments))
