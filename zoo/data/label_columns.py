"""Targets of a table in which each class, or each measured value, has a column of its own: one-hot rows, several labels
as 0 and 1, probabilities, numbers. Importing this needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.data.table_rows import CELLS, Row, Table, number
from zoo.errors import InputError, Problem, listed

ROUNDED = 0.011  # how far from 1 probabilities may add up, as in zoo.data.split


class ColumnLabels:
    """What the cells of the columns `names` become as targets; `classes`, the outputs' names, are the columns'.

    Without a task, rows that add up to 1 are probabilities of classes (one-hot rows say the class itself), rows of 0
    and 1 are several labels, and numbers beyond 0..1 are a regression. Raises InputError where that leaves it open.
    """

    def __init__(self, task: str, names: Sequence[str], tables: Mapping[str, Table]) -> None:
        self.names = tuple(names)
        self.values = {part: [self._read(table, row) for row in table.rows] for part, table in tables.items()}
        cells = [cell for rows in self.values.values() for row in rows for cell in row]
        self.problems = [cell for cell in cells if isinstance(cell, Problem)]
        train = self.values["train"] if not self.problems else []
        self.task = _task_of(tables["train"].file, train) if task == "auto" and train else task
        self.hard = self.task == "classification" and all(
            _is_one_hot(row) for rows in self.values.values() for row in rows
        )
        self.classes = self.names

    def _read(self, table: Table, row: Row) -> list[float | Problem]:
        cells = zip(self.names, row.label.split(CELLS), strict=True)
        return [self._value(table, row, name, cell) for name, cell in cells]

    def _value(self, table: Table, row: Row, name: str, cell: str) -> float | Problem:
        value = number(cell, table.delimiter)
        if value is not None:
            return value
        if cell:
            return table.problem(row, f"column {name!r} says {cell!r}, which is not a number")
        hint = "write 0 where the class is not there; what nobody has looked at is no label: remove the row"
        return table.problem(row, f"column {name!r} is empty in this row", hint)

    def targets(self, part: str, table: Table) -> list[Any]:
        """A target a row: a class index, probabilities, presences or numbers; a Problem where the cells are none."""
        pairs = zip(table.rows, self.values[part], strict=True)
        return [self._target(table, row, values) for row, values in pairs]

    def _target(self, table: Table, row: Row, values: list[Any]) -> Any:
        if self.hard:
            return values.index(1.0)
        outside = [value for value in values if not 0 <= value <= 1]
        if self.task != "regression" and outside:
            return table.problem(row, f"{outside[0]:g} is no probability", "task: regression takes any number")
        if self.task == "classification" and not _adds_up(values):
            said = f"the probabilities of this row add up to {math.fsum(values):g}, not 1"
            return table.problem(row, said, "several labels a row, each by itself: task: multilabel")
        return values[0] if self.task == "regression" and len(values) == 1 else values

    def notes(self, file: str) -> list[str]:
        """How the columns were taken."""
        how = {"multilabel": "each a label by itself", "regression": "each a measured value"}
        taken = how.get(self.task, "the class is the column with 1" if self.hard else "a probability of each class")
        return [f"{file}: label columns {listed(self.names)}: {taken}"]


def _adds_up(values: Sequence[Any]) -> bool:
    return abs(math.fsum(values) - 1) <= ROUNDED


def _is_one_hot(values: Sequence[Any]) -> bool:
    return set(values) <= {0.0, 1.0} and values.count(1.0) == 1


def _task_of(file: str, rows: Sequence[Sequence[Any]]) -> str:
    seen = {value for row in rows for value in row}
    if min(seen) < 0 or max(seen) > 1:
        return "regression"
    summing = sum(map(_adds_up, rows))
    if len(rows[0]) > 1 and (summing == len(rows) or (2 * summing > len(rows) and not seen <= {0.0, 1.0})):
        return "classification"  # a row that does not add up is named
    if seen <= {0.0, 1.0}:
        return "multilabel"
    message = f"{file}: the label columns have numbers from 0 to 1 that do not add up to 1: what are they?"
    hint = "write task: multilabel for how much of each is there, or task: regression for measured values"
    raise InputError(message, suggestion=hint)
