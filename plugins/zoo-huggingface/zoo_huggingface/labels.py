"""What a column of `datasets` says about its samples: a class, several classes, or numbers."""

from __future__ import annotations

from typing import Any

from zoo.api import InputError
from zoo.errors import Problem, first_problems

_SHOWN = 20  # faulty rows that a message lists before it only counts
_HIDDEN = -1  # what the hub's test splits have in the place of a label


class Labels:
    """The task, the class names and the targets by the column `column` of a table, which is the training part."""

    def __init__(self, table: Any, column: str) -> None:
        kind = table.features[column]
        inner = getattr(kind, "feature", kind)  # of a list, what is in it
        self.column = column
        self.many = inner is not kind
        dtype = str(getattr(inner, "dtype", ""))
        self.named = type(inner).__name__ == "ClassLabel"
        self.text = dtype in ("string", "large_string")
        if not self.named and not self.text and not dtype.startswith(("int", "uint", "bool", "float", "double")):
            raise InputError(f"the column {column!r} contains {kind}, no labels", suggestion="write label: COLUMN")
        numbers = dtype.startswith(("float", "double")) or (self.many and not self.named and not self.text)
        self.task = "regression" if numbers else "multilabel" if self.many else "classification"
        self.classes: tuple[str, ...] = tuple(inner.names) if self.named else ()
        if self.text:
            values = (each for value in table[column] for each in (value or () if self.many else [value]))
            self.classes = tuple(sorted({value for value in values if value is not None}))
        self._places = {name: place for place, name in enumerate(self.classes)}

    def hidden(self, table: Any) -> bool:
        """Whether a part of the data says of no sample what it is."""
        values = table[self.column][:]
        return self.task == "classification" and len(values) > 0 and all(value in (None, _HIDDEN) for value in values)

    def targets(self, table: Any, where: str) -> list[Any]:
        """The target of each row. Raises InputError naming the rows that have none."""
        found = [self._target(value) for value in table[self.column][:]]
        strange = [row for row, target in enumerate(found) if target is None]
        if strange:
            values = table[self.column]
            problems = [Problem(f"{where}: row {row} has no usable {self.column}: {values[row]!r}") for row in strange]
            raise InputError(first_problems(problems, _SHOWN))
        return found

    def _target(self, value: Any) -> Any:
        if value is None:
            return None
        if self.task == "regression":
            return [float(each) for each in value] if self.many else float(value)
        if not self.many:
            return self._place(value)
        places = [self._place(each) for each in value]
        if None in places:
            return None
        return [float(place in places) for place in range(len(self.classes))]

    def _place(self, value: Any) -> int | None:
        if self.text:
            return self._places.get(value)
        known = value is not None and value >= 0 and (not self.classes or value < len(self.classes))
        return int(value) if known else None
