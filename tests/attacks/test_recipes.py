"""Recipes that would run code, reach out of their folder, or never end."""

import pytest

from zoo.errors import InputError
from zoo.recipe.load import check_recipe, load_recipe
from zoo.recipe.yaml_reader import parse

STEPS = "steps: [swap_head: 3, train: 1]\n"
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} {{<<: [{','.join([f'*{chr(97 + n)}'] * 10)}]}}\n" for n in range(9)
)
RECIPES = {
    "merges": MERGES,
    "aliases": MERGES.replace("{<<: [", "[").replace("]}", "]"),
    "a tag that runs": "model: !!python/object/apply:os.system [true]\n" + STEPS,
    "a module's path": "model: {architecture: os.system}\n" + STEPS,
    "nesting": "model: " + "[" * 50_000,
    "a name that leads out": "name: ../../x\nmodel: timm/test_vit\n" + STEPS,
    "a file that leads out": "model: timm/test_vit\nsteps: [swap_head: 3, save: {path: ../../x.safetensors}]\n",
    "a pattern": "model: timm/test_vit\nsteps: [{freeze: {pattern: '(a+)+$'}}, swap_head: 3]\n",
    "a pattern of a factor": "model: timm/test_vit\nsteps: [swap_head: 3, {train: {lr_scale: {'(a|b)*': 2}}}]\n",
    "a download elsewhere": "model: timm/test_vit\ndata: {source: torchvision/cifar10, root: /tmp, download: true}\n"
    + STEPS,
    "2,000 mistakes": "model: {" + ", ".join(f"a{n}: 1" for n in range(2_000)) + "}\n" + STEPS,
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes(recipe, tmp_path, ends):
    (tmp_path / "r.yaml").write_text(RECIPES[recipe])
    assert isinstance(ends(lambda: load_recipe(str(tmp_path / "r.yaml")), 20), InputError)


def test_merges_are_counted(ends):
    assert "counting what aliases repeat" in str(ends(lambda: check_recipe(parse(MERGES, "r.yaml"))))
