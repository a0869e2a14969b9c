"""Reads one sample of a data set of any origin, and says which one failed."""

from __future__ import annotations

from typing import Any

from zoo.errors import WorkError, ZooError


def read(dataset: Any, index: int) -> tuple[Any, Any]:
    """Input and target as the data set gives them. Raises WorkError naming the sample where the data set raises."""
    try:
        value, target = dataset[index]
    except ZooError:
        raise
    except Exception as error:
        raise WorkError(f"the data set fails at sample {index}: {type(error).__name__}: {error}") from error
    return value, target
