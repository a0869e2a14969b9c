"""Recipes as dictionaries, and objects in the place of what they would name."""

from pathlib import Path

import pytest

from zoo.errors import InputError
from zoo.recipe.from_python import as_overrides, put_objects, read_document
from zoo.recipe.load import check_recipe, load_recipe

PLAIN = {
    "model": "timm/test_resnet",
    "data": {"source": "sklearn/digits", "limit": 8},
    "steps": [{"swap_head": "auto"}],
}


def test_a_dictionary_is_the_recipe_that_a_file_with_the_same_keys_is(tmp_path):
    (tmp_path / "recipe.yaml").write_text("model: timm/test_resnet\ndata: {source: sklearn/digits, limit: 8}\n"
                                          "steps: [{swap_head: auto}]\n")  # fmt: skip
    from_file, from_python = load_recipe(str(tmp_path / "recipe.yaml")), check_recipe(read_document(PLAIN))
    assert from_python.resolved == from_file.resolved
    assert (from_python.name, from_python.model, from_python.data) == ("recipe", from_file.model, from_file.data)


def test_the_dictionary_itself_is_not_changed():
    recipe = {"model": "timm/test_resnet", "steps": [{"save": None}]}
    check_recipe(read_document(recipe))
    assert recipe == {"model": "timm/test_resnet", "steps": [{"save": None}]}


def test_places_are_keys():
    document = read_document(PLAIN)
    assert str(document.value(("data", "limit"))) == "data.limit"
    assert str(document.value(("steps", 0, "swap_head"))) == "steps[0].swap_head"
    assert str(document.value(())) == "recipe"


def test_what_is_not_plain_is_named_at_its_place():
    with pytest.raises(InputError) as caught:
        read_document({**PLAIN, "seed": {1, 2}, "data": {"source": object}})
    assert [str(problem.location) for problem in caught.value.problems] == ["data.source", "seed"]
    assert read_document({"data": {"path": Path("a/b"), "image_size": (3, 4)}}).data["data"]["image_size"] == [3, 4]


def test_objects_take_the_place_of_names():
    document = read_document({**PLAIN, "data": {"source": "image_folder", "path": "photos", "batch_size": 4}})
    put_objects(document, model="python:m.Net", data="python:m.Data", transform="python:m.turn")
    assert document.data["model"] == {"architecture": "python:m.Net"}
    assert document.data["data"] == {
        "batch_size": 4,
        "source": "python:m.Data",
        "augmentation": "python:m.turn",
    }
    short = read_document({"data": "sklearn/digits", "steps": []})
    put_objects(short, model=None, data=None, transform="python:m.turn")
    assert short.data["data"] == {"source": "sklearn/digits", "augmentation": "python:m.turn"}
    without = read_document({"steps": []})
    put_objects(without, model=None, data=None, transform="python:m.turn")
    assert without.problems[0].suggestion == "write data: SOURCE, or hand over data="


def test_overrides_are_texts_or_a_mapping():
    assert as_overrides({"train.lr": 1e-3, "data.path": Path("a")}) == ["train.lr=0.001", 'data.path="a"']
    assert as_overrides("seed=1") == ["seed=1"]
    assert as_overrides(["seed=1"]) == ["seed=1"]


def test_a_step_is_named_by_its_key():
    steps = [{"save": "a"}, {"save": "a"}]
    with pytest.raises(InputError, match=r"the save step in steps\[0\].save already"):
        check_recipe(read_document({"model": "timm/test_resnet", "steps": steps}))
