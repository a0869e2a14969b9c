"""The step `init`: what it may say, and its record."""

from __future__ import annotations

import pytest
import torch

MODEL = "model: tutorial/fashion_mlp\nsteps:\n  - init: "


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("{match: fc}", "3:5: init: nothing to fill in with (write weight or bias"),
        ("{parameter: a, weight: zeros}", "init: weight fills modules and parameter one parameter"),
        ("{parameter: a}", "3:5: init: value is missing (write value beside parameter)"),
        ("{value: 1}", "3:5: init: parameter is missing (write parameter beside value)"),
        ("{match: '(', weight: zeros}", "3:19: init.match: '(' is not a regular expression"),
        ("{type: Linaer, weight: zeros}", "init: the model has no module of type 'Linaer'"),
    ],
)
def test_what_is_wrong_with_it(mistakes, options, said):
    assert said in mistakes(MODEL + options)[0]


def test_it_fills_and_keeps_what_it_touched(started):
    run = started(MODEL + "{type: Linear, bias: {constant: {val: 2}}}")
    run.recipe.steps[0].run(run)
    parameters = dict(run.assembly.model.named_parameters())
    biases = [name for name in parameters if name.endswith("bias")]
    assert run.stages == [{"step": 1, "action": "init", "parameters": biases}]
    assert all(torch.equal(parameters[name], torch.full_like(parameters[name], 2)) for name in biases)
