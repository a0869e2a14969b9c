"""How a tensor is made of a source's tensors: a tree whose leaves are those and whose nodes are operations.

Operations are typed on (dtype, shape). `byte_spans` finds the expressions that are the source's bytes as they lie.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from zoo.formats.dtypes import BITS

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


class ShapeError(ValueError):
    """The operation does not fit the tensor; the message says why, the caller adds which tensor and rule."""


@dataclass(frozen=True)
class Expression:
    """A tensor to be made: its dtype and shape, and either the `source` it is or the operation that makes it."""

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
        """The operations in order of execution; those that several branches share are named once."""
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
    """The tensor's bits as a C-contiguous array; `read` gives a source's tensor (see `Source.array`)."""
    import numpy as np

    if expression.source is not None:
        return read(expression.source).reshape(expression.shape)
    assert expression.operation is not None
    arrays = [evaluate(value, read) for value in expression.inputs]
    made: Array = np.ascontiguousarray(expression.operation.apply(arrays, expression.inputs))
    return made.reshape(expression.shape)


def make(operation: Operation, *inputs: Expression) -> Expression:
    """The expression that applies `operation`; what cancels out (a transpose of a transpose) is omitted.

    Raises ShapeError where it does not fit.
    """
    dtype, shape = operation.infer(inputs)
    made = Expression(dtype, shape, None, operation, tuple(inputs))
    return _simplified(made)


def _simplified(made: Expression) -> Expression:
    value, operation = made.inputs[0], made.operation
    if isinstance(operation, Reshape) and isinstance(value.operation, Reshape):
        value = value.inputs[0]
        made = replace(made, inputs=(value,))
    if isinstance(operation, Permute) and isinstance(value.operation, Permute):
        axes = tuple(value.operation.axes[axis] for axis in operation.axes)
        value = value.inputs[0]
        made = replace(made, operation=Permute(axes), inputs=(value,))
    if isinstance(made.operation, Permute) and made.operation.axes == tuple(range(len(value.shape))):
        return value
    same = len(made.inputs) == 1 and (made.dtype, made.shape) == (value.dtype, value.shape)
    return value if same and isinstance(made.operation, Reshape | Slice | Cast | Concat) else made


@dataclass(frozen=True)
class Cast(Operation):
    """Convert to another dtype, rounding to nearest even; NaN stays NaN."""

    to: str

    def infer(self, inputs: Sequence[Expression]) -> tuple[str, tuple[int, ...]]:
        return self.to, inputs[0].shape

    def apply(self, arrays: Sequence[Array], inputs: Sequence[Expression]) -> Array:
        from zoo.formats.casting import cast

        return cast(arrays[0], inputs[0].dtype, self.to)


@dataclass(frozen=True)
class Permute(Operation):
    """Axis k of the result is axis `axes[k]` of the input."""

    axes: tuple[int, ...]

    def infer(self, inputs: Sequence[Expression]) -> tuple[str, tuple[int, ...]]:
        shape = inputs[0].shape
        if sorted(self.axes) != list(range(len(shape))):
            raise ShapeError(f"axes {list(self.axes)} do not name each axis of the shape {list(shape)} once")
        return inputs[0].dtype, tuple(shape[axis] for axis in self.axes)

    def apply(self, arrays: Sequence[Array], inputs: Sequence[Expression]) -> Array:
        permuted: Array = arrays[0].transpose(self.axes)
        return permuted


@dataclass(frozen=True)
class Reshape(Operation):
    """The same elements in the same order under another shape."""

    shape: tuple[int, ...]

    def infer(self, inputs: Sequence[Expression]) -> tuple[str, tuple[int, ...]]:
        if math.prod(self.shape) != inputs[0].elements:
            raise ShapeError(f"shape {list(inputs[0].shape)} has other elements than {list(self.shape)}")
        return inputs[0].dtype, self.shape

    def apply(self, arrays: Sequence[Array], inputs: Sequence[Expression]) -> Array:
        return arrays[0].reshape(self.shape)


@dataclass(frozen=True)
class Slice(Operation):
    """Positions `start` to `stop` of one axis."""

    axis: int
    start: int
    stop: int

    def infer(self, inputs: Sequence[Expression]) -> tuple[str, tuple[int, ...]]:
        shape = inputs[0].shape
        check_axis(self.axis, shape)
        if not 0 <= self.start < self.stop <= shape[self.axis]:
            raise ShapeError(
                f"{self.start}:{self.stop} does not lie in axis {self.axis} of the shape {list(shape)}, "
                f"which has {shape[self.axis]} positions"
            )
        return inputs[0].dtype, (*shape[: self.axis], self.stop - self.start, *shape[self.axis + 1 :])

    def apply(self, arrays: Sequence[Array], inputs: Sequence[Expression]) -> Array:
        cut: Array = arrays[0][(slice(None),) * self.axis + (slice(self.start, self.stop),)]
        return cut


@dataclass(frozen=True)
class Concat(Operation):
    """One after the other along an existing axis."""

    axis: int

    def infer(self, inputs: Sequence[Expression]) -> tuple[str, tuple[int, ...]]:
        first = inputs[0].shape
        check_axis(self.axis, first)
        _check_dtypes(inputs)
        others = [(*value.shape[: self.axis], *value.shape[self.axis + 1 :]) for value in inputs]
        if any(len(value.shape) != len(first) for value in inputs) or len(set(others)) > 1:
            raise ShapeError(f"shapes {_shapes(inputs)} differ in more than axis {self.axis}")
        size = sum(value.shape[self.axis] for value in inputs)
        return inputs[0].dtype, (*first[: self.axis], size, *first[self.axis + 1 :])

    def apply(self, arrays: Sequence[Array], inputs: Sequence[Expression]) -> Array:
        import numpy as np

        whole: Array = np.concatenate(arrays, self.axis)
        return whole


@dataclass(frozen=True)
class Stack(Operation):
    """One after the other along a new axis."""

    axis: int

    def infer(self, inputs: Sequence[Expression]) -> tuple[str, tuple[int, ...]]:
        first = inputs[0].shape
        check_axis(self.axis, (*first, 0))
        _check_dtypes(inputs)
        if len({value.shape for value in inputs}) > 1:
            raise ShapeError(f"shapes {_shapes(inputs)} are not all the same")
        return inputs[0].dtype, (*first[: self.axis], len(inputs), *first[self.axis :])

    def apply(self, arrays: Sequence[Array], inputs: Sequence[Expression]) -> Array:
        import numpy as np

        whole: Array = np.stack(arrays, self.axis)
        return whole


def check_axis(axis: int, shape: Sequence[int]) -> None:
    if not 0 <= axis < len(shape):
        raise ShapeError(f"there is no axis {axis} in the shape {list(shape)}")


def _check_dtypes(inputs: Sequence[Expression]) -> None:
    dtypes = list(dict.fromkeys(value.dtype for value in inputs))
    if len(dtypes) > 1:
        raise ShapeError(f"dtypes differ ({', '.join(dtypes)}); cast them to one first")


def _shapes(inputs: Sequence[Expression]) -> str:
    return ", ".join(str(list(value.shape)) for value in inputs)


@dataclass(frozen=True)
class Span:
    """Bytes `start` to `stop` of a source's tensor."""

    source: str
    start: int
    stop: int


def byte_spans(expression: Expression) -> tuple[Span, ...] | None:
    """The source's bytes that, one after the other, are the tensor; None where values must be rearranged or changed.

    A rename is one whole span; so is a reshape. Concatenating along the first axis strings spans together.
    """
    if expression.source is not None:
        return (Span(expression.source, 0, expression.elements * BITS[expression.dtype] // 8),)
    parts = [byte_spans(value) for value in expression.inputs]
    if any(part is None for part in parts):
        return None
    spans = [span for part in parts for span in part or ()]
    operation, value = expression.operation, expression.inputs[0]
    if isinstance(operation, Reshape):
        return tuple(spans)
    if isinstance(operation, Concat | Stack) and math.prod(value.shape[: operation.axis]) == 1:
        return tuple(spans)
    if isinstance(operation, Slice) and math.prod(value.shape[: operation.axis]) == 1 and BITS[value.dtype] % 8 == 0:
        row = math.prod(value.shape[operation.axis + 1 :]) * BITS[value.dtype] // 8
        return _cut(spans, operation.start * row, operation.stop * row)
    return None


def _cut(spans: Sequence[Span], start: int, stop: int) -> tuple[Span, ...]:
    cut, position = [], 0
    for span in spans:
        begin, end = max(start - position, 0), min(stop - position, span.stop - span.start)
        position += span.stop - span.start
        if begin < end:
            cut.append(Span(span.source, span.start + begin, span.start + end))
    return tuple(cut)
