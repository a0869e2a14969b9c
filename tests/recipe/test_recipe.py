"""What a Recipe holds of the file it was read from."""

from __future__ import annotations

import dataclasses

import pytest

TEXT = "seed: 3\nmodel: tutorial/net_a\nsteps:\n  - remove_module: classifier.relu2\n  - save: a\n"


def test_sections_steps_and_the_plain_data_they_came_from(load):
    recipe = load(TEXT, "save.name=b")
    assert (recipe.path, recipe.name, recipe.seed, recipe.data) == ("recipe.yaml", "recipe", 3, None)
    assert recipe.model.architecture == "tutorial/net_a"
    assert [step.place.action for step in recipe.steps] == ["remove_module", "save"]
    assert recipe.resolved["steps"][1] == {"save": {"name": "b"}}
    assert recipe.resolved is not recipe.document.data


def test_the_document_finds_the_place_of_a_value(load):
    recipe = load(TEXT)
    first, second = recipe.steps
    assert str(recipe.document.value((*first.place.path, "path"))) == "recipe.yaml:4:20"
    assert str(second.place.location) == "recipe.yaml:5:5"


def test_recipes_are_equal_wherever_their_text_stands(load):
    assert load(TEXT) == load(f"# a comment\n\n{TEXT}")
    assert load(TEXT) != load(TEXT.replace("seed: 3", "seed: 4"))


def test_a_recipe_does_not_change(load):
    with pytest.raises(dataclasses.FrozenInstanceError):
        load(TEXT).seed = 4
