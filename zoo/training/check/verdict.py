"""What a dry run found: mistakes, warnings, and what would train at each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from zoo.errors import InputError, Location, Problem
from zoo.model.assembly import Assembly
from zoo.recipe.document import FlagLocation
from zoo.training.check.changes import Change


@dataclass(frozen=True)
class Stage:
    """A train or probe step as it would begin: how many parameters (numbers, not tensors) train and stand still."""

    action: str
    location: Location
    trainable: int
    frozen: int

    def as_dict(self) -> dict[str, Any]:
        return {"step": self.action, "line": self.location.line, "trainable": self.trainable, "frozen": self.frozen}


@dataclass
class Verdict:
    """The outcome of a dry run. `assembly` is the model on `meta` as the last step leaves it, where it could be built.

    `input_shape` and `output_shape` are [b, …] of a small batch; `outputs` is the width the data asks for. `uncalled`
    are modules that forward never uses, `changes` what the steps did to the structure.
    """

    errors: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    assembly: Assembly | None = None
    input_shape: tuple[int, ...] | None = None
    output_shape: tuple[int, ...] | None = None
    outputs: int | None = None
    uncalled: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.errors

    @property
    def trainable(self) -> int | None:
        """Numbers that train at the last train step; without one, in the model as it is left."""
        return self.stages[-1].trainable if self.stages else self._count(lambda trains: trains)

    @property
    def frozen(self) -> int | None:
        """Numbers that stand still at the last train step; without one, in the model as it is left."""
        return self.stages[-1].frozen if self.stages else self._count(lambda trains: not trains)

    def require(self) -> None:
        """Raises InputError with every mistake found."""
        if self.errors:
            raise InputError(self.errors)

    def as_dict(self) -> dict[str, Any]:
        """The JSON document of `zoo check`."""
        return {
            "ok": self.ok,
            "errors": [problem.as_dict() for problem in self.errors],
            "warnings": [problem.as_dict() for problem in self.warnings],
            "trainable": self.trainable,
            "frozen": self.frozen,
            "stages": [stage.as_dict() for stage in self.stages],
            "architecture": self.assembly.architecture if self.assembly else None,
            "input_shape": self.input_shape,
            "output_shape": self.output_shape,
            "changes": [change.as_dict() for change in self.changes],
            "uncalled": self.uncalled,
        }

    def _count(self, chosen: Callable[[bool], bool]) -> int | None:
        if self.assembly is None:
            return None
        return sum(p.numel() for p in self.assembly.model.parameters() if chosen(p.requires_grad))


def in_order(problems: Sequence[Problem]) -> list[Problem]:
    """By their place in the recipe, those of the command line and those without a place last; each said once."""

    def place(problem: Problem) -> tuple[bool, int, int]:
        at = problem.location
        return at is None or isinstance(at, FlagLocation), at.line if at else 0, at.column if at else 0

    return sorted(dict.fromkeys(problems), key=place)
