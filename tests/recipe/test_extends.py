"""Recipes that extend others: what is merged, where mistakes are said to stand, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import zoo
from zoo.errors import InputError
from zoo.recipe import load_recipe

BASE = """\
name: base
seed: 3
model: {architecture: timm/test_resnet, arguments: {in_chans: 3}}
data: {source: sklearn/digits, image_size: 32, limit: 64}
steps:
  - swap_head: auto
  - train: {epochs: 3, lr: 0.1}
"""


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)


def problems(path: Path, overrides=()) -> list[str]:
    with pytest.raises(InputError) as refused:
        load_recipe(str(path), overrides)
    return [str(InputError([problem])).replace(f"{path.parent}/", "") for problem in refused.value.problems]


def test_mappings_are_merged_and_anything_else_replaced(tmp_path):
    write(
        tmp_path,
        base=BASE,
        middle="extends: base.yaml\ndata: {limit: 32, batch_size: 8}\n",
        child="extends: middle.yaml\nmodel: timm/test_vit\nset: {train.lr: 0.2, data.limit: 16, name: mine}\nseed: 4\n",
    )
    recipe = load_recipe(str(tmp_path / "child.yaml"))
    assert recipe.resolved == {
        "name": "mine",
        "seed": 4,
        "model": {"architecture": "timm/test_vit", "arguments": {"in_chans": 3}},
        "data": {"source": "sklearn/digits", "image_size": 32, "limit": 16, "batch_size": 8},
        "steps": [{"swap_head": {"num_classes": "auto"}}, {"train": {"epochs": 3, "lr": 0.2}}],
    }
    assert load_recipe(str(tmp_path / "middle.yaml")).name == "middle"  # not the base's: runs have folders of their own
    other = load_recipe(str(tmp_path / "child.yaml"), ["train.lr=0.5"])
    assert other.resolved["steps"][1] == {"train": {"epochs": 3, "lr": 0.5}}  # --set goes over set


def test_of_several_the_later_one_counts_and_steps_are_replaced_entire(tmp_path):
    write(
        tmp_path,
        base=BASE,
        other="data: {limit: 8}\nseed: 9\n",
        child="extends: [base.yaml, other.yaml]\nsteps: [swap_head: {num_classes: 5}]\n",
    )
    recipe = load_recipe(str(tmp_path / "child.yaml"))
    assert (recipe.seed, recipe.resolved["data"]["limit"], recipe.resolved["data"]["image_size"]) == (9, 8, 32)
    assert recipe.resolved["steps"] == [{"swap_head": {"num_classes": 5}}]


def test_mistakes_stand_where_they_were_written(tmp_path):
    (tmp_path / "sub").mkdir()
    write(tmp_path, base=BASE.replace("lr: 0.1", "lr: x"))
    write(
        tmp_path / "sub",
        child="extends: ../base.yaml\ndata: {batch_sise: 3}\nset:\n  train.epochs: -2\n  trian.lr: 1\n",
    )
    found = problems(tmp_path / "sub/child.yaml")
    assert found == [
        f"{tmp_path}/base.yaml:7:28: train.lr: expected a number above 0 or found, got 'x'",
        "child.yaml:2:8: data: unknown key 'batch_sise' (did you mean batch_size?)",
        "child.yaml:4:3: train.epochs: expected an integer above 0, got -2",
        "child.yaml:5:3: the recipe has no section or step 'trian' (did you mean train?)",
    ]


WANTED = "extends: expected the name of a YAML file, got"
REFUSED = [
    ("extends: bse.yaml", "child.yaml:1:10: extends: there is no recipe {}/bse.yaml (did you mean {}/base.yaml"),
    ("extends: child.yaml", "child.yaml:1:10: extends: child.yaml extends this recipe in turn (remove one of the two)"),
    ("extends: loop.yaml", "loop.yaml:1:10: extends: child.yaml extends this recipe in turn (remove one of the two)"),
    ("extends: 3", f"child.yaml:1:10: {WANTED} 3 (for instance base.yaml)"),
    ("extends: []", f"child.yaml:1:10: {WANTED} []"),
    ("extends: notes.txt", f"child.yaml:1:10: {WANTED} 'notes.txt' (for instance base.yaml)"),
    ("extends: empty.yaml", "child.yaml:1:10: extends: empty.yaml contains no sections (a recipe begins with model:"),
    ("extends: broken.yaml", "broken.yaml:2:1: not valid YAML"),
    ("set: {train.lr: 1}", "child.yaml:1:1: set: there is no extends whose values it could change"),
    (
        "extends: base.yaml\nset: 3",
        "child.yaml:2:6: set: expected a mapping, got 3 (for instance set: {train.lr: 0.1})",
    ),
]


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_what_cannot_be_extended_is_said(text, said, tmp_path):
    write(tmp_path, base=BASE, loop="extends: child.yaml\n", empty="", broken="model: [\n", child=f"{text}\n")
    (tmp_path / "notes.txt").write_text("secret")
    (found,) = problems(tmp_path / "child.yaml")
    assert found.startswith(said.replace("{}/", ""))


def test_files_are_looked_for_beside_what_is_extended_too(tmp_path):
    (tmp_path / "sub").mkdir()
    write(tmp_path, base=BASE.replace("architecture:", "weights: mine.safetensors, architecture:"))
    write(tmp_path / "sub", child="extends: ../base.yaml\n")
    (tmp_path / "mine.safetensors").write_bytes(b"")
    recipe = load_recipe(str(tmp_path / "sub/child.yaml"))
    assert Path(recipe.weights.name).samefile(tmp_path / "mine.safetensors")


def test_a_run_leaves_one_whole_recipe(tmp_path):
    write(tmp_path, base=BASE, child="extends: base.yaml\nset: {train.epochs: 1, data.limit: 20}\n")
    run = zoo.finetune(tmp_path / "child.yaml", output=tmp_path / "run", device="cpu")
    left = load_recipe(str(tmp_path / "run/recipe.yaml"))
    assert "extends" not in left.resolved
    assert left.resolved["steps"][1]["train"]["epochs"] == 1
    assert run.report["name"] == "child"
