"""Whatever becomes of a recipe, reading it gives a Recipe or mistakes with their places: never a traceback.

`ZOO_FUZZ_EXAMPLES=1000` looks longer.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo.errors import InputError
from zoo.recipe import Recipe, load_recipe
from zoo.recipe.document import walk

SOUND = """\
name: everything
seed: 3
device: cpu
model:
  architecture: timm/tf_efficientnet_lite0
  arguments: {drop_rate: 0.1}
  weights: efficientnet-lite/lite0
  remap: [{drop: '^x'}, auto]
  min_coverage: 0.9
data:
  source: csv
  path: data.csv
  arguments: {separator: ';'}
  image_size: [96, 64]
  mean: [0.5, 0.5, 0.5]
  std: [1, 1, 1]
  workers: auto
steps:
  - swap_head:
      num_classes: auto
      module: {Sequential: [{Linear: {out_features: 32}}, ReLU, {Dropout: 0.5}, Linear]}
  - add_module: {name: extra, path: '', module: {Linear: {out_features: auto}}, wire: true}
  - init: {type: Linear, weight: {normal: {std: 0.01}}, bias: zeros}
  - freeze: {policy: pattern, patterns: ['^blocks', 'bn']}
  - train: &train
      epochs: 2
      lr: 1e-3
      optimizer: {SGD: {momentum: 0.9}}
      scheduler: {step: {gamma: 0.5}}
      loss: {CrossEntropyLoss: {label_smoothing: 0.1}}
      metrics: [accuracy, {f1: {}}]
      lr_scale: {'^blocks\\.0': 0.1}
  - freeze: none
  - train: {<<: *train, warmup: 0.1, scheduler: null}
  - probe: ridge
  - load: {weights: efficientnet-lite/lite1, strict_shapes: false}
  - save: {name: half, dtype: float16}
  - evaluate
"""
DATA = yaml.safe_load(SOUND)
DATA["steps"][4]["train"]["lr"] = 1e-3  # PyYAML reads 1e-3 as a text
DATA["steps"][6]["train"]["lr"] = 1e-3
WORDS = [
    *("auto", "train", "freeze", "none", "timm/resnet18", "Linear", "{}", "~", "*", "&a", "<<", "é", "../x", "a" * 300),
    *(
        "\n",
        "a\0b",
        "-",
        "1e999",
        "hf://",
        "zoo/csv",
        "steps",
        "(",
        "SGD",
        "losses",
        ".",
        "a.b",
        "policy",
        "sklearn/digits",
    ),
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 10)
    | st.sampled_from([2**70, -(2**70), 1e308, float("inf"), float("nan"), -0.0, 0.5])
    | st.sampled_from(WORDS)
    | st.text(max_size=8)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
PATHS = [path for path, _ in walk(DATA) if path]


def read(text: str, *overrides: str) -> Recipe | None:
    """The recipe, or None when it is refused in the way it ought to be."""
    Path("recipe.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        return load_recipe("recipe.yaml", overrides)
    except InputError as error:
        problems = error.problems
    lines = text.count("\n") + 1
    assert problems
    for problem in problems:
        assert problem.location is not None, problem
        assert problem.message, problem
        assert problem.location.line <= lines + 1, problem
        str(problem).encode("utf-8")  # what is printed has no halves of characters
    assert len(set(map(str, problems))) == len(problems), "each mistake is said once"
    return None


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


EXAMPLES = int(os.environ.get("ZOO_FUZZ_EXAMPLES", "30"))
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def test_the_sound_recipe_is_sound(fits: Callable[[Any], bool]) -> None:
    assert read(SOUND) is not None
    assert read(yaml.safe_dump(DATA)) is not None
    assert fits(DATA)


@FUZZ
@given(st.lists(st.tuples(st.sampled_from(PATHS), VALUES | st.just("<remove>")), min_size=1, max_size=3))
def test_changed_values(fits: Callable[[Any], bool], changes: list[tuple[Any, Any]]) -> None:
    """And what is accepted fits the schema that editors use."""
    data = copy.deepcopy(DATA)
    for path, value in changes:
        _change(data, path, value)
    recipe = read(yaml.safe_dump(data))
    assert recipe is None or fits(recipe.resolved)


def _change(data: Any, path: tuple[Any, ...], value: Any) -> None:
    for part in path[:-1]:
        if not isinstance(data, dict | list) or part not in (data if isinstance(data, dict) else range(len(data))):
            return
        data = data[part]
    if not isinstance(data, dict | list) or (isinstance(data, list) and path[-1] not in range(len(data))):
        return
    if value == "<remove>":
        if isinstance(data, list) or path[-1] in data:
            del data[path[-1]]
    elif isinstance(data, dict) and isinstance(value, str) and value in WORDS[:4]:
        data[value] = data.pop(path[-1], None)  # another name for the key
    else:
        data[path[-1]] = value


@FUZZ
@given(
    st.lists(
        st.tuples(st.integers(0, len(SOUND)), st.integers(0, 12), st.sampled_from([*WORDS, *"\t :-[]{}'\"#&*!|>\n"])),
        min_size=1,
        max_size=3,
    )
)
def test_changed_text(edits: list[tuple[int, int, str]]) -> None:
    text = SOUND
    for place, length, word in edits:
        text = text[:place] + word + text[place + length :]
    read(text)


@FUZZ
@given(
    st.lists(
        st.sampled_from(
            [".".join(map(str, path)) for path in PATHS] + ["train.epochs", "x", "", "steps[1].a", "[0]", "a..b"]
        ),
        min_size=1,
        max_size=3,
    ),
    st.data(),
)
def test_overrides(keys: list[str], data: st.DataObject) -> None:
    values = [data.draw(VALUES) for _ in keys]
    read(
        SOUND,
        *(f"{key}={yaml.safe_dump(value, default_flow_style=True)}" for key, value in zip(keys, values, strict=True)),
    )
