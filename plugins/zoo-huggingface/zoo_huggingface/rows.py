"""Rows of a table of `datasets` as samples: an image and its target."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from zoo.api import InputError


class Rows:
    """Images of the column `column` with their targets, which are a list beside it: none is decoded to read them."""

    def __init__(self, table: Any, column: str, targets: list[Any]) -> None:
        kind = type(table.features[column])
        self.table = table.select_columns([column]).cast_column(column, kind(decode=False))
        self.column = column
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """A PIL image, or the path of a file, and the target. Raises InputError naming the row that has no image."""
        return self._image(index), self.targets[index]

    def _image(self, index: int) -> Any:
        from PIL import Image

        cell = self.table[index][self.column] or {}
        content, path = cell.get("bytes"), cell.get("path")
        if content is None and path is not None and Path(path).is_file():
            return path
        try:
            if content is None:
                raise InputError(f"row {index} has no image{f': there is no file {path}' if path else ''}")
            return Image.open(io.BytesIO(content))
        except (OSError, ValueError) as error:
            raise InputError(f"cannot decode the image of row {index}{f', {path}' if path else ''}: {error}") from error
