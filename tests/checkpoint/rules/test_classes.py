"""adapt_classes: rows by label name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from zoo.checkpoint.expression import evaluate
from zoo.errors import InputError

OLD = ["cat", "dog", "hot_dog", "crane"]


def rows(program: Callable, rule: str, array: np.ndarray, **surroundings: list[str]) -> np.ndarray:
    outcome = program(f"- adapt_classes: {rule}", {"fc": array.shape}, **surroundings)
    return evaluate(outcome.values["fc"], {"fc": array}.__getitem__)


@pytest.mark.parametrize("shape", [(4, 3), (4,), (4, 3, 1, 1)])
def test_rows_are_picked_and_ordered_by_name(program: Callable, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).normal(size=shape).astype("f4")
    made = rows(program, "fc", array, source_classes=OLD, target_classes=["dog", "cat"])
    assert np.array_equal(made, array[[1, 0]])


def test_names_may_differ_in_case_and_separators(program: Callable) -> None:
    array = np.arange(8, dtype="f4").reshape(4, 2)
    made = rows(program, "{match: fc, from: [cat, dog, hot_dog, crane], to: [Hot-Dog, CAT]}", array)
    assert np.array_equal(made, array[[2, 0]])


def test_new_classes_get_the_mean_and_are_reported(program: Callable) -> None:
    array = np.random.default_rng(0).normal(size=(4, 3)).astype("f4")
    outcome = program("- adapt_classes: fc", {"fc": (4, 3)}, source_classes=OLD, target_classes=["newt", "cat", "eel"])
    made = evaluate(outcome.values["fc"], {"fc": array}.__getitem__)
    assert np.allclose(made[0], array.mean(0), atol=1e-6)
    assert np.array_equal(made[1], array[0])
    assert outcome.initialised == {"fc": "2 of 3 rows, to mean: newt, eel"}
    zero = rows(program, "{match: fc, new: zero}", array, source_classes=OLD, target_classes=["newt", "cat"])
    assert not zero[0].any()


def test_other_names_for_old_classes(program: Callable) -> None:
    array = np.arange(4, dtype="f4")
    made = rows(
        program, "{match: fc, also: {kitten: cat}}", array, source_classes=OLD, target_classes=["kitten", "dog"]
    )
    assert np.array_equal(made, array[[0, 1]])


@pytest.mark.parametrize(
    ("rule", "old", "new", "why"),
    [
        ("fc", [], ["cat"], "needs the classes of the source"),
        ("fc", OLD, [], "needs the classes wanted"),
        ("fc", OLD[:3], ["cat"], "4 rows for 3 class names"),
        ("fc", OLD, ["eel"], "none of the 1 classes"),
        ("fc", ["crane", "dog", "cat", "Crane"], ["crane"], "names 2 classes"),
        ("{match: fc, also: {a: kat}}", OLD, ["a"], "no class 'kat' .*did you mean cat"),
    ],
)
def test_what_cannot_be_decided_is_an_error(program: Callable, rule: str, old: list, new: list, why: str) -> None:
    with pytest.raises(InputError, match=why):
        rows(program, rule, np.zeros(4, "f4"), source_classes=old, target_classes=new)
