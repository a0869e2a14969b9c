"""Schemas and values in words."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, TypeAdapter

from zoo.recipe.options import Fraction, LossName, MetricName, Positive
from zoo.recipe.validate import expected, shown


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "an integer"),
        (Positive, "an integer above 0"),
        (Fraction, "a number from 0 to 1"),
        (Annotated[float, Field(ge=0, lt=1)], "a number of at least 0 and below 1"),
        (Annotated[int, Field(le=4294967296)], "an integer of at most 4294967296"),
        (str, "a string"),
        (bool, "true or false"),
        (float | None, "a number"),
        (int | Literal["auto"], "an integer or auto"),
        (Literal["a", "b", None], "a or b"),
        (list[float], "a list of numbers"),
        (Annotated[list[int], Field(min_length=1)], "a list that is not empty"),
        (tuple[int, int], "a list of 2 integers"),
        (tuple[int, str], "a list of 2 integers or strings"),
        (tuple[int, ...], "a list of integers"),
        (Positive | tuple[Positive, Positive] | None, "an integer above 0 or a list of 2 integers above 0"),
        (dict[str, float], "a mapping"),
        (list[MetricName] | None, "a list of metrics by name"),
        (LossName, "a loss by name"),
        (Annotated[str, Field(examples=["cpu", "cuda"])], "a string such as cpu or cuda"),
        (Any, "anything"),
        (list, "a list"),
    ],
)
def test_expected(annotation: Any, words: str) -> None:
    assert expected(TypeAdapter(annotation).json_schema()) == words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (3, "3"),
        ("3", "'3'"),
        (3.0, "3.0"),
        (1e-5, "1e-05"),
        (float("inf"), ".inf"),
        (float("nan"), ".nan"),
        ([], "[]"),
        ([96, "x"], "[96, 'x']"),
        ({"a": [1]}, "{a: [1]}"),
        (list(range(5)), "a list of 5"),
        (["x" * 60], "a list"),
        ({"a": "x" * 60}, "a mapping"),
        ("x" * 60, "'" + "x" * 45 + "…'"),
        ("a\x1b[2J", "'a\\x1b[2J'"),
    ],
)
def test_shown(value: Any, text: str) -> None:
    assert shown(value) == text
