"""Which tensors of a pickled file are its weights, however deep they are."""

import argparse

import pytest
import torch

from zoo.errors import InputError
from zoo.formats import open_source
from zoo.formats.part import EVERYTHING
from zoo.formats.pickled_tensors import OrderedTable, StorageRecord, TensorRecord
from zoo.formats.state_dicts import choose, find_candidates


def tensor(elements: int = 4) -> TensorRecord:
    return TensorRecord(StorageRecord("0", "FloatStorage", elements), "F32", 0, (elements,), (1,))


WRAPPED = {
    "state_dict": (lambda s: {"state_dict": s, "epoch": 3}, "state_dict"),
    "model": (lambda s: {"epoch": 1, "model": s, "args": argparse.Namespace(lr=0.1)}, "model"),
    "net": (lambda s: {"net": s, "acc": 93.5}, "net"),
    "nested twice": (lambda s: {"model": {"state_dict": s}}, "model.state_dict"),
    "unknown name": (lambda s: {"epoch": 2, "whatever": s}, "whatever"),
    "in a tuple": (lambda s: (s, 7), "0"),
    "beside an optimizer": (
        lambda s: {"model": s, "optimizer": {"state": {0: {"exp_avg": s["3.weight"] + 1}}}},
        "model",
    ),
    "beside a larger state of a random generator": (
        lambda s: {"rng_state": torch.get_rng_state(), "cuda_rng_state_all": [torch.get_rng_state()], "state_dict": s},
        "state_dict",
    ),
    "beside a larger optimizer of another name": (
        lambda s: {"g": s, "d": {"state": {"x": {"exp_avg": torch.ones(1000)}}, "param_groups": []}},
        "g",
    ),
    "beside averages that are none": (lambda s: {"ema": {"decay": torch.tensor(0.9)}, "state_dict": s}, "state_dict"),
    "beside a few figures": (lambda s: {"best": {"top1": torch.ones(2)}, "encoder": s}, "encoder"),
    "beside a loss": (lambda s: {"loss": torch.tensor(0.3), "state_dict": s}, "state_dict"),
    "vissl": (
        lambda s: {"classy_state_dict": {"base_model": {"model": {"trunk": s}}}},
        "classy_state_dict.base_model.model.trunk",
    ),
}


@pytest.mark.parametrize("wrap", WRAPPED)
def test_nested_state_dicts_are_found(wrap, save, state, same):
    make, path = WRAPPED[wrap]
    source = open_source(save(make(state)))
    same(source, state)
    assert repr(path) in source.kind
    assert not source.notes


def test_lightning_checkpoints(save, state, same):
    content = {
        "state_dict": {f"model.{name}": value for name, value in state.items()},
        "pytorch-lightning_version": "2.5",
    }
    content |= {"callbacks": {"EMA": {"weights": dict(state)}}, "hyper_parameters": {"lr": 0.1}}
    source = open_source(save(content))
    same(source, content["state_dict"])
    assert "Lightning" in source.kind
    assert source.wrappers == ("model.",)


@pytest.mark.parametrize(
    ("other", "default"),
    [
        ("state_dict_ema", "state_dict_ema"),
        ("student", "state_dict"),
        ("teacher", "teacher"),
        ("model_ema", "model_ema"),
    ],
)
def test_one_of_several_is_taken_by_a_told_rule_or_by_key(other, default, save, state, same):
    averaged = {name: value + 1 for name, value in state.items()}
    path = save({"state_dict": state, other: averaged})
    groups = {"state_dict": state, other: averaged}
    chosen = open_source(path)
    same(chosen, groups.pop(default))
    rest = next(iter(groups))
    assert len(chosen.notes) == 1
    assert repr(default) in chosen.notes[0]
    assert repr(rest) in chosen.notes[0]
    named = open_source(path, key=rest)
    same(named, groups[rest])
    assert not named.notes


def test_unknown_groups_are_never_guessed(save, state, same):
    other = {name: value + 1 for name, value in state.items()}
    path = save({"encoder": state, "decoder": other})
    with pytest.raises(InputError) as caught:
        open_source(path)
    assert "'encoder' (9 tensors), 'decoder' (9 tensors)" in str(caught.value)
    assert "--key encoder" in str(caught.value)
    everything = {f"encoder.{name}": value for name, value in state.items()}
    everything |= {f"decoder.{name}": value for name, value in other.items()}
    same(open_source(path, key="."), everything)


def test_wrong_key_names_the_nearest(save, state):
    with pytest.raises(InputError, match="did you mean state_dict"):
        open_source(save({"state_dict": state}), key="state_dic")


def test_candidates_are_found_from_outside_in():
    root = {
        "epoch": 3,
        "model": {"trunk": OrderedTable({"w": tensor()}), "scale": tensor()},
        "optimizer": {"m": tensor()},
    }
    found = find_candidates(root)
    assert [(each.name, each.kind) for each in found] == [("model", "dict of tensors"), ("model.trunk", "state dict")]


def test_a_lone_tensor_is_a_candidate_and_a_circle_ends():
    assert find_candidates(tensor())[0].tensors.keys() == {"tensor"}
    circle: dict = {"w": tensor()}
    circle["again"] = circle
    assert [each.name for each in find_candidates(circle)] == [EVERYTHING]


def test_most_of_the_elements_at_the_root_win_over_groups_of_no_known_name():
    root = {"w": tensor(100), "extra": {"b": tensor(4)}, "more": {"c": tensor(4)}}
    chosen, notes = choose(find_candidates(root), None, "file")
    assert (chosen.name, notes) == (EVERYTHING, [])
    with pytest.raises(InputError, match="contains no tensors"):
        choose([], None, "file")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}, "the state of an optimizer"),
        ({"epoch": 3, "optimizer_state_dict": {"fp32_flat_groups": [torch.ones(3)]}}, "the state of an optimizer"),
        ({"base_lrs": [0.1], "last_epoch": 3}, "the state of a learning-rate schedule"),
        ({"scale": 65536.0, "growth_factor": 2.0}, "the state of a gradient scaler"),
        ({"rng_states": [torch.get_rng_state()]}, "the state of random generators"),
    ],
)
def test_files_without_weights_are_named_for_what_they_are(content, what, save):
    with pytest.raises(InputError, match=f"contains {what} and no weights"):
        open_source(save(content))


def test_names_that_are_equal_once_they_are_text_are_refused(save):
    with pytest.raises(InputError, match="two tensors whose names are both '1'"):
        open_source(save({1: torch.ones(2), "1": torch.zeros(2)}))
    with pytest.raises(InputError, match=r"dotted names are both 'a\.b\.c'"):
        open_source(save({"a": {"b.c": torch.ones(2)}, "a.b": {"c": torch.zeros(2)}}), key=EVERYTHING)


def test_tensors_under_odd_keys_are_told(save):
    source = open_source(save({"a": torch.ones(1), ("b", 1): torch.ones(1), 2.5: torch.ones(1), 10**30: torch.ones(1)}))
    assert list(source.entries) == ["a"]
    assert source.notes[0] == "left out 3 tensors whose keys are neither text nor whole numbers"
