"""How a tensor is made of a source's tensors: a tree whose leaves are those and whose nodes are operations.

It is built and checked on shapes alone; `evaluate` runs it on numpy arrays that carry the tensors' bits (see
`sources.Source.array`). Importing this module imports neither numpy nor torch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from zoo.checkpoint.header import BITS

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

FLOATING = frozenset(dtype for dtype in BITS if dtype.startswith(("F", "BF")))


class ShapeError(ValueError):
    """The operation does not fit the tensor; the message says why, the caller adds which tensor and rule."""


@dataclass(frozen=True)
class Expression:
    """A tensor to be: its dtype and shape, and either the `source` it is or the operation that makes it."""

    dtype: str
    shape: tuple[int, ...]
    source: str | None = None
    operation: Operation | None = None
    inputs: tuple[Expression, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the source's tensors it reads, in order, each once."""
        return tuple(dict.fromkeys(self._leaves()))

    def _leaves(self) -> Iterator[str]:
        if self.source is not None:
            yield self.source
        for value in self.inputs:
            yield from value._leaves()

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The operations in order of execution; those that stand on several branches alike are named once."""
        own = () if self.operation is None else (self.operation,)
        return tuple(dict.fromkeys([step for value in self.inputs for step in value.operations])) + own

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


class Operation(ABC):
    """One operation. Subclasses are frozen dataclasses; their fields are plain values."""

    @abstractmethod
    def infer(self, inputs: Sequence[Expression]) -> tuple[str, tuple[int, ...]]:
        """dtype and shape of the result; raises ShapeError where the inputs do not fit."""

    @abstractmethod
    def apply(self, arrays: Sequence[Array], inputs: Sequence[Expression]) -> Array:
        """The result, from arrays that carry the inputs' bits."""

    def __str__(self) -> str:
        values = ", ".join(_plain(getattr(self, field.name)) for field in fields(self))  # type: ignore[arg-type]
        return f"{type(self).__name__.lower()}({values})"


def _plain(value: Any) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)


def evaluate(expression: Expression, read: Callable[[str], Array]) -> Array:
    """The tensor's bits as a C-contiguous array; `read` gives a source's tensor (see `sources.Source.array`)."""
    import numpy as np

    if expression.source is not None:
        return read(expression.source).reshape(expression.shape)
    assert expression.operation is not None
    arrays = [evaluate(value, read) for value in expression.inputs]
    made: Array = np.ascontiguousarray(expression.operation.apply(arrays, expression.inputs))
    return made.reshape(expression.shape)
