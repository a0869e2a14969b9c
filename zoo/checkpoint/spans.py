"""Which bytes of the source are a tensor as they lie, so that they can be copied without being looked at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zoo.checkpoint.expression import Expression
from zoo.checkpoint.header import BITS
from zoo.checkpoint.operations import Concat, Reshape, Slice, Stack


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
