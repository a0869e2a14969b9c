"""The words a plan is written in: what is to be filled, the move of one tensor, a name whose shape does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zoo.checkpoint.expression import Expression, Operation
from zoo.checkpoint.header import Entry
from zoo.checkpoint.operations import Cast
from zoo.checkpoint.spans import Span, byte_spans

BATCH_NORM_BUFFERS = (".running_mean", ".running_var", ".num_batches_tracked")


@dataclass(frozen=True)
class Target:
    """What is to be filled: its entries, which of them are parameters, and names that share one tensor.

    Without `parameters` everything but batch-norm statistics counts as one. `tied` maps an alias to its canonical
    name; both stand in `entries`. What lies under an `ignored` path (a head that is about to be swapped) may go
    without. `classes` are the class names wanted, by row.
    """

    entries: Mapping[str, Entry]
    parameters: frozenset[str] | None = None
    tied: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    classes: Sequence[str] = ()

    def is_parameter(self, name: str) -> bool:
        if self.parameters is None:
            return not name.endswith(BATCH_NORM_BUFFERS)
        return name in self.parameters

    def ignores(self, name: str) -> bool:
        return any(name == path or name.startswith(f"{path}.") for path in self.ignored)


@dataclass(frozen=True)
class Move:
    """One tensor of the destination and how it is made. Without operations it is a copy of bytes."""

    target: str
    value: Expression

    @property
    def sources(self) -> tuple[str, ...]:
        return self.value.sources

    @property
    def operations(self) -> tuple[Operation, ...]:
        return self.value.operations

    @property
    def dtype(self) -> str:
        return self.value.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    def spans(self) -> tuple[Span, ...] | None:
        """The bytes that can be copied as they are, in order; None where values are rearranged or changed."""
        return byte_spans(self.value)

    def cast_spans(self) -> tuple[Span, ...] | None:
        """Where all that happens to the bytes is one cast at the end: the bytes before it."""
        return byte_spans(self.value.inputs[0]) if isinstance(self.value.operation, Cast) else None

    def as_dict(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "sources": list(self.sources),
            "operations": [str(operation) for operation in self.operations],
            "dtype": self.dtype,
            "shape": list(self.shape),
        }


@dataclass(frozen=True)
class Mismatch:
    """A tensor whose name fits and whose shape does not. `shape` is what the rules made of the source."""

    name: str
    sources: tuple[str, ...]
    shape: tuple[int, ...]
    target_shape: tuple[int, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "sources": list(self.sources),
            "source_shape": list(self.shape),
            "target_shape": list(self.target_shape),
        }
