"""The errors people see: problems with place and suggestion, nearest names, lists that end."""

from __future__ import annotations

import pytest

from zoo.errors import (
    InputError,
    Location,
    Problem,
    WorkError,
    ZooError,
    any_of,
    did_you_mean,
    first_problems,
    is_out_of_memory,
    listed,
    nearest,
)

PLACE = Location("recipe.yaml", 3, 7)


@pytest.mark.parametrize(
    ("problem", "text", "row"),
    [
        (Problem("no"), "no", {"file": None, "line": None, "column": None, "message": "no", "suggestion": None}),
        (
            Problem("no", PLACE, "write yes"),
            "recipe.yaml:3:7: no (write yes)",
            {"file": "recipe.yaml", "line": 3, "column": 7, "message": "no", "suggestion": "write yes"},
        ),
    ],
)
def test_a_problem_as_text_and_as_data(problem: Problem, text: str, row: dict[str, object]) -> None:
    assert str(problem) == text
    assert problem.as_dict() == row


@pytest.mark.parametrize(("kind", "code"), [(InputError, 2), (WorkError, 1)])
def test_an_error_carries_every_problem(kind: type[ZooError], code: int) -> None:
    error = kind([Problem("one"), Problem("two", PLACE)])
    assert error.exit_code == code
    assert str(error) == "one\nrecipe.yaml:3:7: two"
    assert [problem.message for problem in error.problems] == ["one", "two"]


def test_an_error_of_one_text_is_one_problem() -> None:
    assert InputError("no", location=PLACE, suggestion="yes").problems == (Problem("no", PLACE, "yes"),)


def test_nearest_ignores_case_and_knows_names_behind_a_slash() -> None:
    assert nearest("ResNet5O", ["timm/vgg16", "resnet50", "resnet18"])[0] == "resnet50"
    assert nearest("resnet50", ["timm/resnet50", "timm/vgg16"]) == ["timm/resnet50"]
    assert nearest("zzz", ["resnet50"]) == []
    assert len(nearest("stage1", [f"stage{number}" for number in range(2, 8)])) == 3


def test_did_you_mean() -> None:
    assert did_you_mean("acuracy", ["accuracy", "mse"]) == "did you mean accuracy?"
    assert did_you_mean("zzz", ["accuracy"]) is None


@pytest.mark.parametrize(
    ("names", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a or b"), (["a", "b", "c"], "a, b or c")]
)
def test_any_of(names: list[str], text: str) -> None:
    assert any_of(names) == text


@pytest.mark.parametrize(
    ("count", "shown", "text"),
    [(0, 3, ""), (1, 3, "0"), (3, 3, "0, 1, 2"), (4, 3, "0, 1, 2 and 1 more"), (2000, 1, "0 and 1,999 more")],
)
def test_listed(count: int, shown: int, text: str) -> None:
    assert listed(map(str, range(count)), shown) == text


@pytest.mark.parametrize(("count", "last"), [(0, None), (2, "1"), (3, "and 1 more problems like these")])
def test_first_problems(count: int, last: str | None) -> None:
    rows = first_problems([Problem(str(number)) for number in range(count)], 2)
    assert [row.message for row in rows[-1:]] == ([last] if last else [])
    assert len(rows) == min(count, 3)


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: not enough memory: you tried"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("std::bad_alloc"), True),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), True),
        (RuntimeError("shape '[2]' is invalid"), False),
    ],
)
def test_out_of_memory_in_all_its_words(error: BaseException, is_it: bool) -> None:
    assert is_out_of_memory(error) is is_it
