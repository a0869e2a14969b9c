"""Cures that messages of a dry run and of Python name are tried: what is typed as they say makes the mistake go away.

Those of a recipe's own mistakes are tried on the corpus: tests/recipe/test_mistakes.py.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from zoo.errors import InputError, Problem
from zoo.model.freezing import freeze
from zoo.model.prediction import prediction
from zoo.preflight import check
from zoo.recipe import load_recipe
from zoo.training.losses import make_loss
from zoo.training.optimizers import parameter_groups

FILE = "recipe.yaml"
NET = "model: tutorial/net_a\ndata: sklearn/digits\nsteps:\n"  # 10 outputs, 10 classes


def judged(text: str, tmp_path: Path) -> list[Problem]:
    path = tmp_path / FILE
    path.write_text(text)
    verdict = check(load_recipe(path))
    return [*verdict.errors, *verdict.warnings]


def put_in_front(step: str) -> Callable[[str, Problem], str]:
    return lambda text, problem: text.replace("  - train", f"  - {step}\n  - train")


def instead(old: str, new: str) -> Callable[[str, Problem], str]:
    """The recipe with `old` become `new`, which the hint has to say."""

    def cure(text: str, problem: Problem) -> str:
        assert new in str(problem.suggestion)
        return text.replace(old, new)

    return cure


def remove(old: str) -> Callable[[str, Problem], str]:
    return lambda text, problem: text.replace(old, "")


def step_of_the_hint(text: str, problem: Problem) -> str:
    """Put in front of `train` the step that the hint spells out."""
    step = re.search(r"\w+: \{.*\}", str(problem.suggestion))
    assert step
    return text.replace("  - train", f"  - {step[0]}\n  - train")


RUNS: list[tuple[str, str, Callable[[str, Problem], str]]] = [
    (
        "  - freeze: all\n  - train: 1\n",
        "there is nothing to train",
        instead("freeze: all", "freeze: all_but_head"),
    ),
    ("  - swap_head: 5\n  - train: 1\n", "gives 5 outputs, the data has 10", put_in_front("swap_head: auto")),
    ("  - train: {epochs: 1, metrics: [f1, f1]}\n", "'f1' is asked for twice", remove(", f1")),
    ("  - train: {epochs: 1, metrics: [mae]}\n", "'mae' does not fit", instead("mae", "accuracy")),
    (
        "  - train: {epochs: 1, loss: NLLLoss}\n",
        "expects the output of log_softmax",
        instead("NLLLoss", "CrossEntropyLoss"),
    ),
    (
        "  - train: {epochs: 1, loss: {CrossEntropyLoss: {reduction: none}}}\n",
        "reduction none",
        instead("reduction: none", "reduction: mean"),
    ),
    (
        "  - replace_module: {path: fc3, module: {Sequential: [{Linear: {out_features: 10}}, ReLU]}}\n  - train: 1\n",
        "a ReLU in front of CrossEntropyLoss",
        step_of_the_hint,
    ),
    (
        "  - freeze: all\n  - init: {parameter: fc3.bias, value: 0}\n",
        "fc3.bias is frozen",
        lambda text, problem: "".join([*text.splitlines(True)[:3], *reversed(text.splitlines(True)[3:])]),
    ),
]


@pytest.mark.parametrize(("steps", "message", "cure"), RUNS, ids=[message for _, message, _ in RUNS])
def test_what_a_dry_run_says_to_type_is_right(
    steps: str, message: str, cure: Callable[[str, Problem], str], tmp_path: Path
) -> None:
    text = NET + steps
    said = [problem for problem in judged(text, tmp_path) if message in problem.message]
    assert said
    assert said[0].suggestion
    assert not [problem for problem in judged(cure(text, said[0]), tmp_path) if message in problem.message]


def test_auxiliary_heads_are_in_the_loss_as_the_hint_says(tmp_path: Path) -> None:
    text = textwrap.dedent(
        """\
        model: {architecture: torchvision/googlenet, arguments: {aux_logits: true, init_weights: false}}
        data: {source: sklearn/digits, image_size: 64}
        steps:
          - swap_head: auto
          - train: {epochs: 1, auxiliary_loss: 0}
        """
    )
    (said,) = [problem for problem in judged(text, tmp_path) if "auxiliary outputs alone" in problem.message]
    assert "aux1, aux2" in said.message
    assert "write auxiliary_loss: 0.3" in str(said.suggestion)
    assert judged(text.replace("auxiliary_loss: 0}", "auxiliary_loss: 0.3}"), tmp_path) == []


def test_what_is_frozen_trains_again_as_the_hint_says() -> None:
    model = nn.Sequential(nn.Linear(3, 3))
    freeze(model, [""])
    with pytest.raises(InputError, match=r"every parameter is frozen .*freeze: none"):
        parameter_groups(model, lr=0.1, weight_decay=0.0)
    freeze(model, [])
    assert parameter_groups(model, lr=0.1, weight_decay=0.0)
    with pytest.raises(InputError, match=r"no parameters \(remove the train step\)"):
        parameter_groups(nn.Sequential(nn.ReLU()), lr=0.1, weight_decay=0.0)


def test_an_output_under_the_key_logits_is_taken_as_the_hint_says() -> None:
    tensor = torch.zeros(2, 3)
    with pytest.raises(InputError, match="under the key logits"):
        prediction({"features": tensor, "scores": tensor})
    assert prediction({"features": tensor, "logits": tensor}) is tensor


def test_label_smoothing_is_removed_as_the_hint_says() -> None:
    with pytest.raises(InputError, match="remove label_smoothing"):
        make_loss("auto", "multilabel", label_smoothing=0.1)
    make_loss("auto", "multilabel")
