"""What docs/reproducibility.md promises: the same bytes from the same recipe, and what does not matter to them."""

import pytest
import yaml

import zoo

RECIPE = {
    "precision": "float32",
    "model": "timm/test_resnet",
    "data": {"source": "sklearn/digits", "image_size": 32, "limit": 64, "augmentation": "crop_flip", "workers": 0},
    "steps": [{"swap_head": "auto"}, {"train": 1}],
}


@pytest.fixture
def train(tmp_path):
    def train(name, *overrides):
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(RECIPE))
        zoo.finetune(recipe, overrides=overrides, output=tmp_path / name, device="cpu")
        return (tmp_path / name / "model.safetensors").read_bytes()

    return train


def test_the_same_recipe_leaves_the_same_bytes(train):
    assert train("once") == train("again")


@pytest.mark.slow
def test_another_seed_leaves_others(train):
    assert train("once") != train("other", "seed=1")


def test_a_step_in_front_leaves_the_order_of_a_train_step_as_it_is(train):
    """Its order goes by its number among the train steps; the frozen step does nothing else here."""
    recipe = "steps=[{swap_head: auto}, {freeze: none}, {train: 1}]"
    assert train("once") == train("later", recipe)
