"""Which step a word of a recipe stands for."""

from __future__ import annotations

import pytest

from zoo import registry
from zoo.recipe.chain import actions_of, first_option, meant, name_of, step_class, step_names, surgery_step
from zoo.steps.save import Save
from zoo.steps.train import Train

OWN = [
    *("load_adapter", "save_adapter", "look", "evaluate", "finetune_from_probe", "freeze"),
    *("init", "load", "lr_finder", "probe", "save", "thresholds", "train"),
]
# the first two are zoo-peft's, the third is zoo-tensorboard's


@pytest.fixture
def more(monkeypatch):
    """Adds rows of a plugin to what is installed."""

    def add(*names: str) -> list[registry.Component]:
        rows = registry.entries()
        made = []
        for name in names:
            kind, _, full = name.partition(" ")
            plugin = full.partition("/")[0]
            made.append(registry.Component(full, kind, plugin, f"zoo-{plugin}", "1", "zoo.steps.save:Save"))
        monkeypatch.setattr(registry, "entries", lambda: (*rows, *made))
        return made

    return add


def names(action: str) -> list[str]:
    return [row.name for row in meant(action)]


def test_zoo_s_own_steps_by_their_short_names():
    assert step_names() == OWN
    assert step_class("train") is Train
    assert step_class("zoo/train") is None, "a report calls it train"


def test_a_surgery_is_meant_by_its_own_name_alone():
    assert names("swap_head") == names("zoo/swap_head") == ["zoo/swap_head"]
    assert names("surgery") == names("zoo/surgery") == []
    assert actions_of(surgery_step()) == []


def test_zoo_s_own_go_before_a_plugin_s(more):
    step, surgery = more("steps acme/train", "surgeries acme/save")
    assert names("train") == ["zoo/train"]
    assert names("save") == ["zoo/save"]
    assert (actions_of(step), actions_of(surgery)) == (["acme/train"], ["acme/save"])
    assert step_names() == [*OWN, "acme/train"]


def test_a_plugin_s_step_by_its_short_name_while_nothing_else_is_called_so(more):
    (step,) = more("steps acme/keep")
    assert (actions_of(step), name_of(step)) == (["keep", "acme/keep"], "acme/keep")
    assert step_names() == [*OWN, "keep"]
    assert step_class("acme/keep") is Save
    more("surgeries other/keep")
    assert names("keep") == ["acme/keep", "other/keep"]
    assert step_names() == [*OWN, "acme/keep"]


def test_a_step_that_is_not_installed_or_broken_has_no_class(more, monkeypatch):
    more("steps acme/keep")
    broken = tuple(row.broken("it is gone") if row.plugin == "acme" else row for row in registry.entries())
    assert step_class("acme/keep") is Save
    monkeypatch.setattr(registry, "entries", lambda: broken)
    assert step_class("other/keep") is None
    assert "keep" not in step_names()


@pytest.mark.parametrize(
    ("action", "option"),
    [("train", "epochs"), ("freeze", "policy"), ("swap_head", "num_classes"), ("zoo/save", "name"), ("trian", None)],
)
def test_what_a_lone_value_stands_for(action, option):
    assert first_option(action) == option


def test_what_two_share_stands_for_nothing(more):
    more("steps acme/keep", "surgeries other/keep")
    assert first_option("keep") is None
    assert first_option("acme/keep") == "name"
