"""The facade for plugins: each name is the one of the room it comes from, and zoo's own where both have it."""

import importlib

import pytest

import zoo
from zoo import api


@pytest.mark.parametrize(
    ("name", "room"),
    [
        ("CONTRACTS", "zoo.contracts"),
        ("Data", "zoo.contracts"),
        ("InputError", "zoo.errors"),
        ("ModelInfo", "zoo.model.info"),
        ("Run", "zoo.finetuning.result"),
        ("ActiveRun", "zoo.finetuning.run"),
        ("Assembly", "zoo.model.assembly"),
        ("Document", "zoo.recipe.document"),
        ("Rehearsal", "zoo.preflight.rehearsal"),
        ("called_modules", "zoo.model.shapes"),
        ("find_heads", "zoo.model.heads"),
        ("load_into", "zoo.model.load_into"),
        ("name_mistake", "zoo.file_name"),
        ("operate", "zoo.model.operations"),
        ("replace_head", "zoo.model.heads"),
        ("find_head", "zoo.model.heads"),
        ("get_module", "zoo.model.paths"),
        ("set_module", "zoo.model.paths"),
    ],
)
def test_names_come_from_their_rooms(name, room):
    assert getattr(api, name) is getattr(importlib.import_module(room), name)


def test_what_zoo_and_its_facade_share_is_the_same():
    shared = set(zoo.__all__) & set(api.__all__)
    assert shared == {
        "Context", "Data", "InputError", "ModelInfo", "Preprocessing", "Run", "Weights", "WorkError", "ZooError",
        "load_into",
    }  # fmt: skip
    assert all(getattr(zoo, name) is getattr(api, name) for name in shared)


def test_what_there_is_not():
    with pytest.raises(AttributeError, match=r"module 'zoo\.api' has no attribute 'fly'"):
        api.fly  # noqa: B018
