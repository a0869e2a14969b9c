"""Reaching modules by path, and what is said when a path leads nowhere."""

import pytest
from torch import nn

from zoo.errors import InputError
from zoo.model.paths import canonical, get_module, module_paths, set_module, split


@pytest.fixture
def model():
    nested = nn.Sequential()
    for index in range(3):
        nested.add_module(f"block {index}", nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    return nn.Sequential(nested, nn.Linear(4, 2), nn.ModuleList([nn.Identity(), nn.Linear(2, 2)]))


def test_every_path_leads_to_its_module(model):
    for path, module in model.named_modules():
        assert get_module(model, path) is module
        assert canonical(model, path) == path
    assert "0.block 1.0" in module_paths(model)


def test_a_shared_module_has_a_path_at_each_place():
    shared = nn.Linear(2, 2)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    assert module_paths(model) == ["", "0", "1", "2"]


def test_negative_numbers_count_from_the_end(model):
    assert canonical(model, "-1.-2") == "2.0"
    assert canonical(model, "0.-1.0") == "0.block 2.0"
    with pytest.raises(InputError):
        canonical(model, "-4")


def test_set_module_keeps_the_place_in_the_order(model):
    set_module(model, "0.block 1.0", nn.Conv1d(1, 1, 1))
    assert isinstance(model[0][1][0], nn.Conv1d)
    assert list(dict(model[0].named_children())) == ["block 0", "block 1", "block 2"]


def test_split_gives_parent_and_name(model):
    parent, name = split(model, "0.block 1.0")
    assert parent is model[0][1]
    assert name == "0"
    with pytest.raises(InputError, match="the model itself"):
        split(model, "")


@pytest.mark.parametrize(
    ("path", "said", "hint"),
    [
        ("0.blok 1.0", "'0' (Sequential) contains block 0, block 1, block 2", "0.block 1.0"),
        ("0.block 1.7", "'0.block 1' (Sequential) contains 0, 1", "0.block 1.0"),
        ("1.weight", "'1' (Linear) contains no modules", None),
        ("zebra", "the model (Sequential) contains 0, 1, 2", None),
    ],
)
def test_a_lost_path_says_what_exists_at_the_last_good_level(model, path, said, hint):
    with pytest.raises(InputError) as caught:
        get_module(model, path)
    (problem,) = caught.value.problems
    assert said in problem.message
    assert hint is None or hint in problem.suggestion
