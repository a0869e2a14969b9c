"""Recipes without mistakes: every shorthand, what is resolved, and what a Recipe then holds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from zoo.errors import InputError
from zoo.recipe import Recipe, load_recipe
from zoo.steps.evaluate import Evaluate
from zoo.steps.freeze import Freeze
from zoo.steps.load import Load
from zoo.steps.save import Save
from zoo.steps.surgery import Surgery
from zoo.steps.train import Train

Loader = Callable[..., Recipe]

QUICKSTART = """\
name: quickstart
seed: 0
model:
  architecture: timm/tf_efficientnet_lite0
  weights: efficientnet-lite/lite0
data:
  source: sklearn/digits
  image_size: 96
  batch_size: 64
steps:
  - swap_head: {num_classes: auto}
  - freeze: all_but_head
  - train: {epochs: 10, lr: 1.0e-2}
  - freeze: {policy: below, module: blocks.5}
  - train: {epochs: 3, lr: 5.0e-4}
"""


def test_the_design_s_recipe(load: Loader) -> None:
    recipe = load(QUICKSTART)
    assert (recipe.name, recipe.seed, recipe.device, recipe.precision) == ("quickstart", 0, "auto", "auto")
    assert recipe.model.architecture == "timm/tf_efficientnet_lite0"
    assert recipe.data is not None
    assert (recipe.data.source, recipe.data.image_size, recipe.data.batch_size) == ("sklearn/digits", 96, 64)
    assert list(recipe.steps) == [
        Surgery(component="zoo/swap_head", arguments={"num_classes": "auto"}),
        Freeze(policy="zoo/all_but_head"),
        Train(epochs=10, lr=1e-2),
        Freeze(policy="zoo/below", module="blocks.5"),
        Train(epochs=3, lr=5e-4),
    ]
    assert [step.place.action for step in recipe.steps] == ["swap_head", "freeze", "train", "freeze", "train"]
    assert str(recipe.steps[4].place.location) == "recipe.yaml:15:5"
    assert [step.place.index for step in recipe.steps] == [0, 1, 2, 3, 4]


def test_resolved_is_a_recipe_again(load: Loader) -> None:
    first = load(QUICKSTART, "train.epochs=1")
    again = load(yaml.safe_dump(first.resolved))
    assert again.resolved == first.resolved
    assert again.steps == first.steps
    assert first.resolved["steps"][1] == {"freeze": {"policy": "all_but_head"}}


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("train: 3", "train: {epochs: 3}"),
        ("evaluate", "evaluate: {}"),
        ("evaluate:", "evaluate: {}"),
        ("probe", "probe: {}"),
        ("probe: ridge", "probe: {kind: ridge}"),
        ("save: best", "save: {name: best}"),
        ("freeze: all", "freeze: {policy: all}"),
        ("freeze: none", "freeze: {policy: none}"),
        ("zoo/swap_head: 10", "zoo/swap_head: {num_classes: 10}"),
        ("swap_head: auto", "swap_head: {num_classes: auto}"),
        ("remove_module: output", "remove_module: {path: output}"),
        ("load: efficientnet-lite/lite0", "load: {weights: efficientnet-lite/lite0}"),
    ],
)
def test_shorthands(load: Loader, short: str, long: str) -> None:
    text = "model: {{architecture: tutorial/net_a}}\ndata: {{source: sklearn/digits}}\nsteps:\n  - {}\n"
    brief = load("model: tutorial/net_a\ndata: sklearn/digits\nsteps:\n  - " + short)
    assert brief.resolved == load(text.format(long)).resolved
    assert str(brief.steps[0].place.location) == "recipe.yaml:4:5"


def test_a_surgery_called_like_a_built_in_step_gives_way(load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    """`train` is the step; a surgery of that name goes by its full name."""
    from zoo import registry

    rows = registry.entries()
    extra = registry.Component("acme/train", "surgeries", "acme", "zoo-acme", "1", "zoo.model.surgeries:swap_head")
    monkeypatch.setattr(registry, "entries", lambda: (*rows, extra))
    recipe = load("model: tutorial/net_a\ndata: sklearn/digits\nsteps: [train: 1, acme/train: 5]")
    assert list(recipe.steps) == [Train(epochs=1), Surgery(component="acme/train", arguments={"num_classes": 5})]


def test_an_architecture_of_its_own_is_checked_by_its_signature(
    load: Loader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from zoo import registry

    (tmp_path / "acme_plain.py").write_text("def tower(*, width: int = 8): ...")
    monkeypatch.syspath_prepend(str(tmp_path))
    rows = registry.entries()
    extra = registry.Component("tower", "architectures", "acme", "zoo-acme", "1", "acme_plain:tower")
    monkeypatch.setattr(registry, "entries", lambda: (*rows, extra))
    recipe = load("model: {architecture: acme/tower, arguments: {width: 4}}\nsteps: [save]")
    assert recipe.model.architecture == "acme/tower"
    with pytest.raises(InputError) as caught:
        load("model: {architecture: acme/tower, arguments: {width: wide, dept: 1}}\nsteps: [save]")
    assert str(caught.value) == (
        "recipe.yaml:1:54: model.arguments.width: expected an integer, got 'wide'\n"
        "recipe.yaml:1:60: model.arguments: unknown key 'dept' (keys here: width)"
    )


def test_a_broken_plugin_is_a_problem_where_it_is_named(load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo import registry

    rows = registry.entries()
    extra = registry.Component("acme/cut", "surgeries", "acme", "zoo-acme", "1.2", "acme_missing:cut")
    monkeypatch.setattr(registry, "entries", lambda: (*rows, extra))
    with pytest.raises(InputError) as caught:
        load("model: tutorial/net_a\nsteps:\n  - cut: 3\n  - save: ''")
    assert str(caught.value).startswith(
        "recipe.yaml:3:5: acme/cut is broken: zoo-acme 1.2 (acme_missing:cut): ModuleNotFoundError"
    )
    assert "recipe.yaml:4:11: save.name" in str(caught.value), "the other mistakes are found as well"


def test_a_dataset_s_arguments_stand_beside_or_below(load: Loader) -> None:
    text = "model: tutorial/net_a\ndata: {{source: csv, {}}}\nsteps: [evaluate]"
    beside = load(text.format("path: a.csv, label_column: class, batch_size: 4"))
    below = load(text.format("arguments: {path: a.csv, label_column: class}, batch_size: 4"))
    both = load(text.format("path: a.csv, arguments: {label_column: class}, batch_size: 4"))
    assert beside.data == below.data == both.data
    assert beside.data is not None
    assert beside.data.arguments == {"path": "a.csv", "label_column": "class"}
    assert beside.data.source == "zoo/csv"


def test_weights_in_a_file_are_looked_for_beside_the_recipe_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "recipes"
    folder.mkdir()
    text = "model: {architecture: tutorial/net_a, weights: a.safetensors}\nsteps:\n  - load: sub/b.pth\n"
    (folder / "r.yaml").write_text(text)
    (tmp_path / "a.safetensors").write_text("")
    (folder / "sub").mkdir()
    (folder / "sub/b.pth").write_text("")
    recipe = load_recipe("recipes/r.yaml")
    assert recipe.model.weights == "a.safetensors"
    assert recipe.steps[0] == Load(weights="recipes/sub/b.pth")
    (folder / "a.safetensors").write_text("")
    assert load_recipe("recipes/r.yaml").model.weights == "recipes/a.safetensors"
    assert recipe.resolved["model"]["weights"] == "a.safetensors", "as written: a run's record names no folder of mine"


def test_a_file_of_rules_is_looked_for_beside_the_recipe_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "rules.yaml").write_text("- drop: ^fc")
    (folder / "plain").write_text("- drp: ^fc")
    (tmp_path / "a.pth").touch()
    text = "model: {{architecture: tutorial/net_a, {0}}}\nsteps: [load: {{{0}}}]"
    (folder / "r.yaml").write_text(text.format("weights: a.pth, remap: [rules.yaml, {drop: x}]"))
    recipe = load_recipe("recipes/r.yaml")
    assert recipe.model.remap == ["recipes/rules.yaml", {"drop": "x"}]
    step = recipe.steps[0]
    assert isinstance(step, Load)
    assert step.remap == recipe.model.remap
    assert recipe.resolved["model"]["remap"] == ["rules.yaml", {"drop": "x"}]
    (folder / "r.yaml").write_text(text.format("weights: a.pth, remap: plain"))
    with pytest.raises(InputError, match=r"recipes/plain:1:3: there is no rule 'drp' \(did you mean drop"):
        load_recipe("recipes/r.yaml")


def test_names_are_resolved_once(load: Loader) -> None:
    recipe = load("model: {architecture: net_a, weights: lite0}\nsteps: [save]")
    assert recipe.architecture.name == "tutorial/net_a"
    assert recipe.weights is not None
    assert recipe.weights.component is not None
    assert recipe.weights.component.name == "efficientnet-lite/lite0"
    assert recipe.weights.name == "lite0"
    assert recipe.dataset is None
    recipe = load(
        "model: {architecture: torchvision/resnet18, weights: IMAGENET1K_V1}\n"
        "data: {source: csv, path: a.csv}\nsteps: [save]"
    )
    assert recipe.weights is not None
    assert recipe.weights.component == recipe.architecture
    assert recipe.dataset is not None
    assert recipe.dataset.name == "zoo/csv"


def test_a_missing_file_names_its_neighbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lite.safetensors").write_text("")
    (tmp_path / "r.yaml").write_text("model: {architecture: tutorial/net_a, weights: light.safetensors}\nsteps: [save]")
    with pytest.raises(InputError, match=r"there is no file light\.safetensors \(did you mean lite\.safetensors"):
        load_recipe("r.yaml")


@pytest.mark.parametrize(
    "weights",
    [
        "IMAGENET1K_V1",
        "hf://org/repo",
        "hf://org/repo/model.safetensors",
        "hf://org/repo/model.safetensors@main",
        "https://example.org/model.pth",
    ],
)
def test_weights_by_tag_and_address(load: Loader, weights: str) -> None:
    recipe = load(f"model: {{architecture: torchvision/resnet18, weights: '{weights}'}}\nsteps: [save]")
    assert recipe.model.weights == weights


@pytest.mark.parametrize(
    "remap",
    [
        "auto",
        "'^a=b'",
        "'strip_prefix: module.'",
        "lukemelas_lite0",
        "efficientnet-lite/lukemelas_lite0",
        "[{rename: {a: b}}, auto]",
    ],
)
def test_remaps(load: Loader, remap: str) -> None:
    load(
        "model: {architecture: timm/tf_efficientnet_lite0, weights: efficientnet-lite/lite0, "
        f"remap: {remap}}}\nsteps: [save]"
    )


def test_the_rows_of_the_tutorials_can_be_written(load: Loader) -> None:
    """One recipe a row of the tutorials' page that is about steps."""
    for model, data, steps in (
        ("torchvision/resnet18", "sklearn/digits", "[freeze: all, swap_head: 10, train: {epochs: 5, lr: 1e-2, "
         "optimizer: {SGD: {momentum: 0.9}}}]"),
        ("torchvision/vgg16", "null", "[add_module: {name: add_linear, module: {Linear: {out_features: 10}}}]"),
        ("torchvision/vgg16", "null", "[add_module: {path: classifier, name: add_linear, module: "
         "{Linear: {in_features: 1000, out_features: 10}}}]"),
        ("torchvision/vgg16", "null", "[replace_module: {path: classifier.6, module: {Linear: {out_features: 10}}}]"),
        ("tutorial/fashion_mlp", "{source: torchvision/FashionMNIST, download: true, batch_size: 64}",
         "[train: {epochs: 5, lr: 1e-3, optimizer: SGD, scheduler: null, loss: CrossEntropyLoss}, evaluate]"),
        ("tutorial/nested_blocks", "null", "[init: {parameter: '0.block 1.0.bias', index: [0], value: 42}]"),
        ("tutorial/net_a", "null", "[init: {type: Linear, weight: {normal: {mean: 0, std: 0.01}}, bias: zeros}]"),
        ("tutorial/net_a", "null", "[init: {match: '^0', weight: xavier_uniform}, init: {match: '^2', weight: "
         "{constant: {val: 42}}}, init: {type: Linear, weight: uniform_keep_large}]"),
        ("tutorial/net_a", "sklearn/digits", "[train: {epochs: 1, loss: {L1Loss: {reduction: sum}}, metrics: "
         "[mae, {MeanSquaredError: {squared: false}}]}]"),
        ("tutorial/net_a", "null", "[replace_module: {path: '0', module: {MyLinear: {out_features: 5}}}]"),
    ):  # fmt: skip
        load(f"model: {model}\ndata: {data}\nsteps: {steps}\n")


def test_anchors_and_merges_serve_every_step(load: Loader) -> None:
    recipe = load(
        """\
        model: tutorial/net_a
        data: sklearn/digits
        steps:
          - train: &warm {epochs: 1, lr: 1e-2}
          - train: {<<: *warm, lr: 1e-3}
          - train: *warm
        """
    )
    assert list(recipe.steps) == [
        Train(epochs=1, lr=1e-2),
        Train(epochs=1, lr=1e-3),
        Train(epochs=1, lr=1e-2),
    ]


def test_names_of_steps_that_stand_alone(load: Loader) -> None:
    recipe = load("model: tutorial/net_a\ndata: sklearn/digits\nsteps: [evaluate, save]")
    assert list(recipe.steps) == [Evaluate(), Save()]
    assert recipe.name == "recipe", "the file's name"


def test_importing_recipes_imports_no_torch() -> None:
    code = "import sys; import zoo.recipe.schema; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
