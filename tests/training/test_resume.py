"""Which changes of a recipe a resumed run takes, and how each is said."""

from __future__ import annotations

import copy

import pytest

from zoo.training.resume import DURING, HARMLESS, changes, refused

BEFORE = {
    "name": "a",
    "seed": 1,
    "model": {"architecture": "x"},
    "data": {"source": "y", "workers": 2},
    "steps": [
        {"swap_head": {"num_classes": 10}},
        {"train": {"epochs": 2, "lr": 0.1}},
        {"freeze": {"policy": "all"}},
        {"train": {"epochs": 4, "lr": 0.1, "optimizer": "SGD"}},
        {"evaluate": {}},
    ],
}
AT = 3
FRESH, ONE, ALL = ({"epoch": epoch, "steps": 10 * epoch} for epoch in (0, 1, 4))


def changed(edit) -> dict:
    now = copy.deepcopy(BEFORE)
    edit(now)
    return now


def split(edit, progress) -> tuple[list[str], list[str]]:
    """(taken, refused) as they are said."""
    found = changes(BEFORE, changed(edit))
    wrong = refused(found, AT, progress, BEFORE["steps"][AT]["train"])
    return [str(change) for change in found if change not in wrong], [str(change) for change in wrong]


def option(index, **values):
    return lambda now: next(iter(now["steps"][index].values())).update(values)


def test_nothing_is_nothing():
    assert changes(BEFORE, copy.deepcopy(BEFORE)) == []


def test_what_training_does_not_depend_on_is_no_change():
    assert changes(BEFORE, changed(lambda now: now.update(name="b", device="cpu"))) == []
    assert changes(BEFORE, changed(lambda now: now["data"].update(workers=0, cache="off"))) == []


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda now: now.update(seed=2), "seed 1 -> 2"),
        (lambda now: now["model"].update(weights="w"), "model.weights not set -> 'w'"),
        (lambda now: now["data"].update(limit=3), "data.limit not set -> 3"),
        (option(0, num_classes=9), "swap_head: num_classes 10 -> 9"),
        (option(1, lr=0.2), "train 1: lr 0.1 -> 0.2"),
        (option(1, epochs=3), "train 1: epochs 2 -> 3"),
        (option(2, policy="none"), "freeze: policy 'all' -> 'none'"),
        (lambda now: now["steps"].__setitem__(2, {"drop": {}}), "step 3 {freeze: {policy: 'all'}} -> {drop: {}}"),
    ],
)
@pytest.mark.parametrize("progress", [FRESH, ONE])
def test_what_is_done_stays(edit, said, progress):
    assert split(edit, progress) == ([], [said])


@pytest.mark.parametrize(
    "edit",
    [
        option(4, metrics=["f1"]),
        lambda now: now["steps"].append({"train": {"epochs": 1}}),
        lambda now: now["steps"].pop(),
        lambda now: now["steps"].insert(4, {"save": {"name": "a"}}),
    ],
)
@pytest.mark.parametrize("progress", [FRESH, ONE, ALL])
def test_later_steps_are_free(edit, progress):
    taken, wrong = split(edit, progress)
    assert taken
    assert not wrong


def test_taking_the_step_away_that_the_run_is_at():
    _, wrong = split(lambda now: now["steps"].__delitem__(slice(3, None)), ONE)
    assert [text.partition(" ")[0] for text in wrong] == ["step"]


@pytest.mark.parametrize("name", DURING)
def test_options_of_the_step_it_is_at(name):
    said = f"train 2: {name} {0.1 if name == 'lr' else 'not set'} -> 7"
    for progress in (FRESH, ONE):
        assert split(option(AT, **{name: 7}), progress) == ([said], [])
    assert split(option(AT, **{name: 7}), ALL) == ([], [said])
    assert split(option(AT, **{name: 7}, epochs=5), ALL)[1] == []


@pytest.mark.parametrize("name", ["optimizer", "batch_size", "accumulate", "loss", "ema", "layer_decay", "views"])
def test_options_that_an_epoch_settles(name):
    assert split(option(AT, **{name: 7}), FRESH)[1] == []
    assert split(option(AT, **{name: 7}), ONE)[0] == []


@pytest.mark.parametrize("rule", [{"keep": {"best": "loss"}}, {"early_stopping": {"patience": 2, "metric": "loss"}}])
def test_class_weights_stay_where_the_loss_compares_epochs(rule):
    before = changed(option(AT, **rule))
    now = copy.deepcopy(before)
    now["steps"][AT]["train"]["class_weights"] = "balanced"
    found, options = changes(before, now), before["steps"][AT]["train"]
    assert refused(found, AT, ONE, options) == found
    assert refused(found, AT, FRESH, options) == []


@pytest.mark.parametrize("name", HARMLESS)
def test_options_that_nothing_depends_on(name):
    assert split(option(AT, **{name: True}), ALL)[1] == []


def test_epochs_go_upwards():
    assert split(option(AT, epochs=5), ALL) == (["train 2: epochs 4 -> 5"], [])
    assert split(option(AT, epochs=3), ONE) == ([], ["train 2: epochs 4 -> 3"])
    assert split(option(AT, max_steps=30), ONE) == ([], ["train 2: max_steps not set -> 30"])


def test_a_refused_change_says_what_to_type():
    (one,) = changes(BEFORE, changed(option(AT, optimizer={"SGD": {"momentum": 0.9}})))
    assert str(one.problem()) == (
        "train 2: optimizer was 'SGD' when this run began and is {SGD: {momentum: 0.9}} "
        "(change it back: --set steps[3].train.optimizer='SGD')"
    )
    (other,) = changes(BEFORE, changed(option(AT, ema=0.9)))
    assert str(other.problem()).endswith("(change it back: remove steps[3].train.ema)")
