"""Signatures as schemas: what a component is annotated with decides what a recipe may say."""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
import torch
from pydantic import Field, ValidationError
from torch import nn, optim

from zoo.recipe.signature import converted, is_open, model_of, parameters, plain, summary
from zoo.recipe.validate import expected

if TYPE_CHECKING:
    from nowhere import Unknown


def words(function: Callable[..., Any], **options: Any) -> dict[str, str]:
    schema = model_of(parameters(function, **options)).model_json_schema()
    return {name: expected(value, schema.get("$defs")) for name, value in schema["properties"].items()}


def takes(function: Callable[..., Any], given: dict[str, Any], **options: Any) -> bool:
    model = model_of(parameters(function, **options), extra="allow" if is_open(function) else "forbid")
    try:
        model.model_validate_json(json.dumps(given), strict=True)
    except ValidationError:
        return False
    return True


def surgery(
    model: nn.Module,
    *,
    num_classes: int,
    rate: float | None = None,
    mode: Literal["a", "b"] = "a",
    sizes: tuple[int, int] = (1, 2),
    path: Path = Path(),
    like: Unknown | None = None,
    tensor: torch.Tensor | float = 0.0,
    call: Callable[..., Any] | None = None,
    plain=None,
) -> nn.Module:
    """Do a thing.

    At length.
    """
    return model


def test_the_signature_is_the_schema() -> None:
    assert words(surgery, first=1, auto=True) == {
        "num_classes": "an integer or auto",
        "rate": "a number",
        "mode": "a or b",
        "sizes": "a list of 2 integers",
        "path": "a string",
        "like": "anything",
        "tensor": "a number",
        "call": "anything",
        "plain": "anything",
    }
    assert summary(surgery) == "Do a thing."


@pytest.mark.parametrize(
    ("given", "fits"),
    [
        ({"num_classes": 3}, True),
        ({"num_classes": "auto"}, True),
        ({"num_classes": "3"}, False),
        ({"num_classes": True}, False),
        ({"num_classes": 3.0}, False),
        ({}, False),
        ({"num_classes": 3, "rate": 1}, True),
        ({"num_classes": 3, "rate": None}, True),
        ({"num_classes": 3, "rate": True}, False),
        ({"num_classes": 3, "rate": "auto"}, False),
        ({"num_classes": 3, "sizes": [1, 2]}, True),
        ({"num_classes": 3, "sizes": [1, 2, 3]}, False),
        ({"num_classes": 3, "unknown": 1}, False),
        ({"num_classes": 3, "model": 1}, False),
    ],
)
def test_strictness(given: dict[str, Any], fits: bool) -> None:
    assert takes(surgery, given, first=1, auto=True) is fits


def test_names_that_pydantic_keeps_for_itself() -> None:
    def odd(*, json: int, model_config: str, _hidden: int, schema: float, parameter_0: bool = True) -> None: ...

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(words(odd)) == ["json", "model_config", "_hidden", "schema", "parameter_0"]


def test_any_argument_is_open() -> None:
    def open_ended(*things: int, size: int = 1, **more: Any) -> None: ...

    assert is_open(open_ended)
    assert takes(open_ended, {"anything": 1})
    assert not takes(open_ended, {"size": "x"})


def test_partials_and_classes() -> None:
    assert words(functools.partial(surgery, num_classes=3), first=1)["rate"] == "a number"
    assert words(nn.Linear)["out_features"] == "an integer"
    assert words(optim.AdamW, first=1)["betas"] == "a list of 2 numbers"
    assert takes(optim.SGD, {"lr": 0.1, "momentum": 0}, first=1)
    assert not takes(optim.SGD, {"nesterov": 1}, first=1)
    assert words(nn.Conv2d)["kernel_size"] == "an integer or a list of 2 integers"


def test_modules_are_given_by_name() -> None:
    from zoo.model.surgeries import wrap
    from zoo.model.swap_head import swap_head

    assert words(swap_head, first=1, skip=("context",), auto=True)["module"] == "a module by name"
    assert words(wrap, first=1)["module"] == "a module by name"
    assert words(nn.TransformerEncoder)["encoder_layer"] == "a module by name"


def test_a_signature_in_c_is_open() -> None:
    assert is_open(max)
    assert parameters(max) == {}


class Mode(enum.Enum):
    FAST = "fast"


@dataclasses.dataclass(frozen=True)
class Window:
    size: tuple[int, int] = (3, 3)
    name: str = "hann"


def typed(
    path: Path,
    mode: Mode = Mode.FAST,
    window: Window = Window(),
    sizes: tuple[int, ...] = (),
    share: Annotated[float, Field(gt=0, description="Of the whole.")] = 1,
    files: list[Path] | None = None,
    layer: nn.Module | None = None,
    either: int | str = 0,
    bare=None,
) -> None: ...


def test_what_yaml_cannot_write_is_converted() -> None:
    written = {
        "path": "a/b",
        "mode": "fast",
        "window": {"size": [5, 7]},
        "sizes": [1, 2],
        "share": 0.5,
        "files": ["x"],
        "either": "auto",
        "bare": [1],
    }
    assert takes(typed, written)
    made = converted(typed, written)
    assert made == {
        "path": Path("a/b"),
        "mode": Mode.FAST,
        "window": Window((5, 7)),
        "sizes": (1, 2),
        "share": 0.5,
        "files": [Path("x")],
        "either": "auto",
        "bare": [1],
    }
    assert {key: plain(value) for key, value in made.items()} == {**written, "window": {"size": [5, 7], "name": "hann"}}


@pytest.mark.parametrize(("key", "value"), [("layer", nn.ReLU()), ("mode", "slow"), ("path", Path("a")), ("odd", 1)])
def test_what_does_not_fit_or_is_an_object_already_is_left(key: str, value: Any) -> None:
    assert converted(typed, {key: value})[key] is value


def test_constraints_and_descriptions_of_annotated_are_kept() -> None:
    assert not takes(typed, {"path": "a", "share": 0})
    schema = model_of(parameters(typed)).model_json_schema()["properties"]
    assert schema["share"]["description"] == "Of the whole."
    assert (schema["path"].get("format"), schema["mode"]["default"]) == ("path", "fast")
