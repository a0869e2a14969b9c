"""The step `freeze`: a policy by its name, its arguments beside it."""

from __future__ import annotations

import re

import pytest

from zoo.recipe.step import Place
from zoo.steps.freeze import Freeze

MODEL = "model: tutorial/net_a\nsteps:\n"


def test_it_is_read_with_the_policy_s_full_name_and_its_arguments(read):
    first, second = read(MODEL + "  - freeze: all\n  - freeze: {policy: pattern, patterns: ['^0']}").steps
    assert (first.policy, first.arguments) == ("zoo/all", {})
    assert (second.policy, second.arguments) == ("zoo/pattern", {"patterns": ["^0"]})


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (
            "freeze",
            "3:5: freeze: expected a policy's name, got nothing (policies: adapters_only, all, all_but_head,",
        ),
        ("freeze: [all]", "3:5: freeze: expected a policy's name, got ['all'] (write freeze: {policy: pattern,"),
        ("freeze: {below: fc}", "got no policy (write freeze: {policy: below, module: 'fc'})"),
        ("freeze: {polcy: all}", "got no policy (did you mean policy?)"),
        ("freeze: al", "3:13: no freezing policy is called 'al' (did you mean all?)"),
        ("freeze: {policy: below, modul: fc}", "freeze: unknown key 'modul' (did you mean module?)"),
    ],
)
def test_what_is_no_policy_is_told_with_what_was_meant(mistakes, written, said):
    assert said in mistakes(f"{MODEL}  - {written}\n")[0]


def test_it_freezes(started):
    run = started(MODEL + "  - freeze: {policy: pattern, patterns: ['bias$']}\n  - freeze: all_but_head\n")
    frozen = []
    for step in run.recipe.steps:
        step.run(run)
        frozen.append({name for name, p in run.assembly.model.named_parameters() if not p.requires_grad})
    assert all(name.endswith("bias") for name in frozen[0])
    assert any(name.endswith("weight") for name in frozen[1])
    assert set(run.assembly.frozen.parameters) == frozen[1], "each step decides anew"


def test_a_policy_may_take_an_argument_called_as_a_method():
    step = Freeze(policy="acme/odd", run=3, place="x").at(Place("freeze", "freeze", 0))
    assert step.arguments == {"run": 3, "place": "x"}
    assert step.place.index == 0


def test_a_policy_that_fails_is_named(plugins, mistakes):
    failing = "def odd(model):\n    raise KeyError('nothing')"
    plugins.write("zoo-acme", "[zoo.freezing]\nodd = acme_odd:odd", acme_odd=failing)
    (said,) = mistakes(MODEL + "  - freeze: odd\n")
    assert re.fullmatch(r"recipe.yaml:3:5: acme/odd failed: KeyError: 'nothing' \(.*acme_odd\.py:2\)", said)
