"""What can be done to a tensor's layout on the way, typed on (dtype, shape).

Layout operations move bits and never change a value, whatever the dtype; what computes new values is in `adapting`.
Importing this module imports neither numpy nor torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from zoo.checkpoint.expression import Expression, Operation, ShapeError

if TYPE_CHECKING:
    from zoo.checkpoint.expression import Array


def make(operation: Operation, *inputs: Expression) -> Expression:
    """The expression that applies `operation`; what cancels out (a transpose of a transpose) is left away.

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
        from zoo.checkpoint.casting import cast

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
    """One behind the other along an existing axis."""

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
    """One behind the other along a new axis."""

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
