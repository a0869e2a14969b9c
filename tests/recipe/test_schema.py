"""The JSON Schema for editors: sound in itself, it accepts every recipe and refuses what is visibly wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import InputError
from zoo.recipe import load_recipe
from zoo.recipe.chain import step_names
from zoo.recipe.yaml_reader import parse

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))
Fits = Callable[[Any], bool]


def places(schema: Any) -> Iterator[Any]:
    """Every mapping inside a schema."""
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from places(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from places(value)


def test_it_is_draft_2020_12_and_json(recipe_schema: dict[str, Any]) -> None:
    assert recipe_schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(recipe_schema, allow_nan=False)) == recipe_schema


def test_every_reference_leads_somewhere(recipe_schema: dict[str, Any]) -> None:
    references = [place["$ref"] for place in places(recipe_schema) if isinstance(place.get("$ref"), str)]
    assert references
    for reference in references:
        found: Any = recipe_schema
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert isinstance(found, dict)


def test_every_step_and_kind_of_name_is_in_it(recipe_schema: dict[str, Any]) -> None:
    steps = recipe_schema["$defs"]["step"]["anyOf"][1]["properties"]
    assert {*step_names(), "freeze", "zoo/train", "swap_head", "zoo/swap_head", "add_module"} <= set(steps)
    assert "surgery" not in steps, "it goes by the surgeries' own names"
    names = {name for option in recipe_schema["$defs"]["modules"]["anyOf"] for name in option.get("enum", ())}
    assert {"ReLU", "Linear", "tutorial/MyLinear", "MyLinear"} <= names
    assert "x-names" not in json.dumps(recipe_schema)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_it_accepts_every_shipped_recipe(path: Path, fits: Fits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert fits(parse(path.read_text(), str(path)).data), "as written"
    try:
        resolved = load_recipe(str(path)).resolved
    except InputError as error:  # a warm start from a run that has not been made here
        resolved = None
        problems = error.problems
    assert fits(resolved) if resolved else all("there is no file" in problem.message for problem in problems)


MODEL = "model: tutorial/net_a\ndata: sklearn/digits\nsteps:\n  - "


@pytest.mark.parametrize(
    "text",
    [
        MODEL + "train: 3",
        MODEL + "evaluate",
        MODEL + "evaluate:",
        MODEL + "freeze: all",
        MODEL + "freeze: {policy: below, module: '2'}",
        MODEL + "freeze: {policy: pattern, patterns: ['^0', '^1']}",
        MODEL + "swap_head: auto",
        MODEL + "swap_head: {num_classes: 10, module: {Sequential: [{Linear: {out_features: 8}}, ReLU, Linear]}}",
        MODEL + "append: {module: {Dropout: 0.5}}",
        MODEL + "train: {epochs: 1, optimizer: {SGD: {momentum: 0.9}}, scheduler: null, metrics: [accuracy, f1]}",
        MODEL + "init: {type: Linear, weight: {normal: {std: 0.01}}, bias: zeros}",
        "model: {architecture: resnet50d, weights: x, remap: [{drop: a}]}\nsteps: [save]",
        "model: tutorial/net_a\ndata: {source: csv, path: a.csv, limit: 10, workers: auto}\nsteps: [evaluate]",
        "model: tutorial/net_a\ndata: {source: zoo/csv, arguments: {path: a}, image_size: [8, 8]}\nsteps: [evaluate]",
    ],
)
def test_it_accepts_every_form(text: str, fits: Fits) -> None:
    assert fits(parse(text, "r.yaml").data)


@pytest.mark.parametrize(
    "text",
    [
        "model: tutorial/net_a",
        "model: tutorial/net_a\nsteps: []",
        "model: tutorial/net_z\nsteps: [save]",
        "model: resnet18\nsteps: [save]",
        "sed: 1\nmodel: tutorial/net_a\nsteps: [save]",
        "model: tutorial/net_a\nseed: x\nsteps: [save]",
        "model: tutorial/net_a\ndevice: gpu\nsteps: [save]",
        "model: tutorial/net_a\ndata: csv\nsteps: [save]",
        "model: tutorial/net_a\ndata: {source: csv, paht: a.csv}\nsteps: [save]",
        "model: tutorial/net_a\ndata: {source: sklearn/digits, batch_size: '3'}\nsteps: [save]",
        MODEL + "trian: 3",
        MODEL + "freeze",
        MODEL + "freeze: alll",
        MODEL + "freeze: {policy: below}",
        MODEL + "freeze: {policy: below, module: a, modul: b}",
        MODEL + "load",
        MODEL + "replace_module: classifier.6",
        MODEL + "train: {epochs: '3'}",
        MODEL + "train: {epochs: 3, lr: 0}",
        MODEL + "train: {epochs: 3, optimizer: SGDD}",
        MODEL + "train: {epochs: 3, optimizer: {SGD: {momentun: 0.9}}}",
        MODEL + "train: {epochs: 3, optimizer: {SGD: {}, AdamW: {}}}",
        MODEL + "train: {epochs: 3, metrics: accuracy}",
        MODEL + "swap_head: 10.5",
        MODEL + "swap_head: {num_classes: 10, module: ReLuu}",
        MODEL + "swap_head: {num_classes: 10, module: {Sequential: [ReLuu]}}",
        MODEL + "append: {module: {Linear: {out_feature: 3}}}",
        "model: tutorial/net_a\nsteps:\n  - {train: 3, save: a}",
    ],
)
def test_it_refuses_what_load_recipe_refuses(text: str, fits: Fits) -> None:
    assert not fits(parse(text, "r.yaml").data)
