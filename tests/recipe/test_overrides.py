"""`--set KEY=VALUE`: where it reaches, what it makes, and that a mistake in it is placed at the flag."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zoo.errors import InputError
from zoo.recipe import Recipe

RECIPE = """\
model: torchvision/vgg16
data: {source: sklearn/digits, batch_size: 64}
steps:
  - swap_head: auto
  - train: {epochs: 3, lr: 0.1}
  - evaluate
  - train: 5
"""


def at(recipe: Recipe, *path: str | int) -> Any:
    value: Any = recipe.resolved
    for part in path:
        value = value[part]
    return value


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("data.batch_size=16", ("data", "batch_size"), 16),
        (" data.batch_size = 16", ("data", "batch_size"), 16),
        ("steps.1.train.epochs=1", ("steps", 1, "train", "epochs"), 1),
        ("steps[1].train.lr=1e-3", ("steps", 1, "train", "lr"), 0.001),
        (
            "steps[1].train.optimizer={SGD: {momentum: 0.9}}",
            ("steps", 1, "train", "optimizer"),
            {"SGD": {"momentum": 0.9}},
        ),
        ("steps.0.swap_head.num_classes=10", ("steps", 0, "swap_head", "num_classes"), 10),
        ("swap_head.num_classes=10", ("steps", 0, "swap_head", "num_classes"), 10),
        ("swap_head=10", ("steps", 0, "swap_head"), {"num_classes": 10}),
        ("steps.2=save", ("steps", 2), {"save": {}}),
        ("evaluate.metrics=[f1]", ("steps", 2, "evaluate", "metrics"), ["f1"]),
        ("data.arguments.seed=3", ("data", "arguments", "seed"), 3),
        ("data.seed=3", ("data", "seed"), 3),
        ("model.weights=IMAGENET1K_V1", ("model", "weights"), "IMAGENET1K_V1"),
        ("model.weights=", ("model", "weights"), None),
        ("name=a=b", ("name",), "a=b"),
        ("name='3'", ("name",), "3"),
        ("device=cpu", ("device",), "cpu"),
    ],
)
def test_reach(load: Callable[..., Recipe], override: str, path: tuple[str | int, ...], value: object) -> None:
    assert at(load(RECIPE, override), *path) == value


def test_an_action_stands_for_every_step_of_its_name(load: Callable[..., Recipe]) -> None:
    recipe = load(RECIPE, "train.epochs=1")
    assert [at(recipe, "steps", index, "train", "epochs") for index in (1, 3)] == [1, 1]
    assert at(recipe, "steps", 1, "train", "lr") == 0.1, "the rest of the step stays"


def test_later_overrides_go_over_earlier_ones(load: Callable[..., Recipe]) -> None:
    recipe = load(RECIPE, "train.epochs=1", "steps.3.train.epochs=2", "data=sklearn/digits", "data.batch_size=8")
    assert [at(recipe, "steps", index, "train", "epochs") for index in (1, 3)] == [1, 2]
    assert at(recipe, "data") == {"source": "sklearn/digits", "batch_size": 8}


def test_a_section_that_was_not_there(load: Callable[..., Recipe]) -> None:
    recipe = load("model: tutorial/net_a\nsteps: [evaluate]", "data.source=sklearn/digits")
    assert at(recipe, "data") == {"source": "sklearn/digits"}


def test_a_mistake_is_placed_at_its_flag_and_as_json(load: Callable[..., Recipe]) -> None:
    with pytest.raises(InputError) as caught:
        load(RECIPE, "steps.1.train={epochs: 0, lr: 0}", "data.source=sklearn/digitss")
    assert [str(problem) for problem in caught.value.problems] == [
        "--set data.source: no dataset is called 'sklearn/digitss' (did you mean sklearn/digits?)",
        "--set steps.1.train: train.epochs: expected an integer above 0, got 0",
        "--set steps.1.train: train.lr: expected a number above 0 or found, got 0",
    ]
    assert caught.value.problems[0].as_dict()["file"] == "--set data.source"


def test_an_alias_is_not_changed_in_both_places(load: Callable[..., Recipe]) -> None:
    recipe = load(
        "model: tutorial/net_a\ndata: sklearn/digits\nsteps: [train: &a {epochs: 1}, train: *a]", "steps.0.train.lr=1.0"
    )
    assert at(recipe, "steps") == [{"train": {"epochs": 1, "lr": 1.0}}, {"train": {"epochs": 1}}]


def test_data_can_be_taken_away(load: Callable[..., Recipe]) -> None:
    with pytest.raises(InputError) as caught:
        load(RECIPE, "data=null")
    assert len(caught.value.problems) == 4, "swap_head, both trains and evaluate miss it"
