"""The steps taken on meta: what each does wrong is placed in the recipe, what is counted is what training meets."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from zoo.api import Context
from zoo.errors import InputError
from zoo.finetuning.finetune import finetune
from zoo.model.build import build
from zoo.model.freeze_policies import all_but_head, below
from zoo.model.freezing import freeze
from zoo.model.operations import operate
from zoo.preflight import Verdict

Check = Callable[..., Verdict]
NET = "model: tutorial/net_a\ndata: sklearn/digits\nsteps:\n"  # conv1 pool conv2 fc1 fc2 fc3: 10 outputs


def errors(verdict: Verdict) -> list[str]:
    return [str(problem) for problem in verdict.errors]


def warnings(verdict: Verdict) -> list[str]:
    return [str(problem) for problem in verdict.warnings]


def test_counts_are_those_of_the_real_model(checked: Check) -> None:
    verdict = checked(
        """\
        model: torchvision/resnet18
        data: {source: sklearn/digits, image_size: 64}
        steps:
          - swap_head: auto
          - freeze: all_but_head
          - train: 1
          - freeze: {policy: below, module: layer4}
          - train: 1
        """
    )
    real = operate(build("torchvision/resnet18"), "swap_head", {"num_classes": 10}, Context()).model
    counts = []
    for names in (all_but_head(real), below(real, module="layer4")):
        freeze(real, names)
        trains = sum(parameter.numel() for parameter in real.parameters() if parameter.requires_grad)
        counts.append((trains, sum(parameter.numel() for parameter in real.parameters()) - trains))
    assert verdict.ok, errors(verdict)
    assert [(stage.trainable, stage.frozen) for stage in verdict.stages] == counts
    assert (verdict.trainable, verdict.frozen) == counts[-1]
    assert (verdict.input_shape, verdict.output_shape) == ((2, 3, 64, 64), (2, 10))
    assert [str(change) for change in verdict.changes] == [
        "~ fc  Linear(in_features=512, out_features=1000, bias=True) -> "
        "Linear(in_features=512, out_features=10, bias=True)"
    ]
    assert verdict.assembly is not None
    assert all(parameter.is_meta for parameter in verdict.assembly.model.parameters())


def test_without_a_train_step_the_model_as_it_is_left_is_counted(checked: Check) -> None:
    verdict = checked("model: tutorial/net_a\nsteps:\n  - freeze: {policy: below, module: fc3}\n")
    assert verdict.trainable == 84 * 10 + 10
    assert verdict.frozen == 62006 - 850


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (
            "replace_module: {path: fc4, module: ReLU}",
            "4:28: no module at 'fc4': 'fc4' is not there; the model (SmallConvNet) contains conv1, pool, conv2, fc1, "
            "fc2, fc3 (did you mean fc3, fc2 or fc1?)",
        ),
        (
            "freeze: {policy: below, module: conv3}",
            "4:37: no module at 'conv3': 'conv3' is not there; the model (SmallConvNet) contains conv1, pool, conv2, "
            "fc1, fc2, fc3 (did you mean conv2 or conv1?)",
        ),
        (
            "freeze: {policy: pattern, patterns: ['^conv1', '^cnv']}",
            "4:52: pattern: '^cnv' finds no parameter or buffer (did you mean conv2 or conv1?)",
        ),
        (
            "freeze: {policy: first_stages, count: 99}",
            "4:43: first_stages: count is 99, but the model has",
        ),
        (
            "init: {match: fc9, weight: ones}",
            "4:19: init: no module is matched by 'fc9' (did you mean fc3, fc2 or fc1?)",
        ),
        (
            "init: {parameter: fc3.bias, index: [99], value: 1}",
            "4:23: init: fc3.bias is [10]; there is no element [99]",
        ),
        (
            "add_module: {name: fc1, module: ReLU}",
            "4:24: the model has a module 'fc1' (replace_module: {path: fc1, …})",
        ),
        (
            "train: {epochs: 1, lr_scale: {'^head': 0.1}}",
            "4:35: lr_scale: '^head' finds no trainable parameter",
        ),
        ("train: {epochs: 1, optimizer: {AdamW: {betas: [2, 3]}}}", "4:24: optimizer AdamW: Invalid beta parameter"),
        ("train: {epochs: 1, scheduler: {OneCycleLR: {pct_start: 3}}}", "4:24: scheduler OneCycleLR: Expected float"),
        ("train: {epochs: 1, metrics: [mae]}", "4:34: metric 'mae' does not fit a classification task"),
        ("evaluate: {metrics: [mae]}", "4:26: metric 'mae' does not fit a classification task"),
        ("train: {epochs: 1, loss: {CrossEntropyLoss: {reduction: none}}}", "4:61: CrossEntropyLoss: reduction none"),
    ],
)
def test_what_only_the_model_can_tell_is_placed_in_the_recipe(checked: Check, step: str, said: str) -> None:
    verdict = checked(NET + f"  - {step}\n  - evaluate\n")
    assert len(verdict.errors) == 1
    assert errors(verdict)[0].startswith(f"recipe.yaml:{said}")
    with pytest.raises(InputError):
        verdict.require()


def test_a_failing_step_does_not_hide_the_next_ones(checked: Check) -> None:
    verdict = checked(
        NET
        + "  - replace_module: {path: fc9, module: ReLU}\n"
        + "  - freeze: {policy: below, module: fc8}\n"
        + "  - train: {epochs: 1, lr_scale: {'^fc7': 1}}\n"
    )
    assert [problem.location.line for problem in verdict.errors if problem.location] == [4, 5, 6]


def test_an_output_that_does_not_fit_the_data(checked: Check) -> None:
    verdict = checked(NET.replace("net_a", "net_b_reshaped") + "  - swap_head: 7\n  - train: 1\n  - evaluate\n")
    assert errors(verdict) == [
        "recipe.yaml:5:5: train: the model gives 7 outputs, the data has 10 classes (put swap_head: auto in front)"
    ]


def test_a_dead_module_by_the_tutorial_s_own_hand(checked: Check) -> None:
    """`add_module` at the top of a network whose forward does not know it."""
    text = (
        "model: tutorial/net_a\ndata: sklearn/digits\nsteps:\n"
        "  - swap_head: 1000\n"
        "  - add_module: {{name: add_linear, module: {{Linear: {{in_features: 1000, out_features: 10}}}}, wire: {}}}\n"
        "  - train: 1\n"
    )
    verdict = checked(text.format("false"))
    assert warnings(verdict) == [
        "recipe.yaml:5:5: add_linear is never called by the model's forward: it is dead weight "
        "(remove it, or let add_module wire it (wire: true))"
    ]
    assert errors(verdict) == [
        "recipe.yaml:6:5: train: the model gives 1000 outputs, the data has 10 classes "
        "(add_linear is never called: wire it)"
    ]
    assert verdict.uncalled == ("add_linear",)
    wired = checked(text.format("true"))
    assert wired.ok
    assert not wired.warnings
    assert wired.output_shape == (2, 10)


def test_nothing_to_train(checked: Check) -> None:
    verdict = checked(NET + "  - freeze: all\n  - train: 1\n")
    assert errors(verdict) == [
        "recipe.yaml:5:5: train: there is nothing to train: the freeze step in line 4 leaves nothing (freeze less, for "
        "instance freeze: all_but_head, or put what shall train behind the freeze step)"
    ]


def test_what_a_later_step_puts_in_trains(checked: Check) -> None:
    verdict = checked(NET + "  - freeze: all\n  - swap_head: auto\n  - train: 1\n")
    assert verdict.ok
    assert verdict.trainable == 850


def test_an_image_too_small_is_placed_at_its_size(checked: Check) -> None:
    verdict = checked("model: tutorial/net_a\ndata: {source: sklearn/digits, image_size: 28}\nsteps: [train: 1]\n")
    assert errors(verdict)[0].startswith(
        "recipe.yaml:2:44: an input [2, 3, 28, 28] does not go through the model: in fc1 (Linear)"
    )


def test_a_misfit_made_by_a_surgery_is_placed_there(checked: Check) -> None:
    step = "  - add_module: {name: extra, module: {Linear: {in_features: 3, out_features: 10}}}\n"
    verdict = checked(
        NET.replace("sklearn/digits", "{source: sklearn/digits, image_size: 32}") + step + "  - train: 1\n"
    )
    assert len(verdict.errors) == 1
    assert errors(verdict)[0].startswith(
        "recipe.yaml:4:24: an input [2, 3, 32, 32] does not go through the model: in extra"
    )


def test_traps_are_warnings_at_their_place(checked: Check) -> None:
    verdict = checked(
        """\
        model: tutorial/fashion_mlp_relu
        data: sklearn/digits
        steps:
          - replace_module:
              path: linear_relu_stack.2
              module: {MyLinearDetached: {in_features: 512, out_features: 512}}
          - train: {epochs: 1, loss: CrossEntropyLoss}
          - train: {epochs: 1, loss: CrossEntropyLoss}
        """
    )
    assert verdict.ok
    gradient, relu = warnings(verdict)
    assert gradient.startswith("recipe.yaml:4:5: linear_relu_stack.2.weight, linear_relu_stack.2.bias are trainable")
    assert relu.startswith(
        "recipe.yaml:7:24: linear_relu_stack.5 is the last operation of the network: a ReLU in front of"
    )
    assert len(warnings(verdict)) == 2, "the second train step says nothing new"


def test_a_probe_needs_a_head(checked: Check) -> None:
    assert checked(NET + "  - probe\n").ok
    verdict = checked(NET.replace("net_a", "one_convolution") + "  - probe\n")
    assert errors(verdict)[0].startswith("recipe.yaml:4:5: Sequential has no linear layer or 1x1 convolution")


DICTIONARY = """
from torch import nn
class Net(nn.Module):
    def __init__(self, *keys):
        super().__init__()
        self.keys, self.fc = keys, nn.Linear(3 * 8 * 8, 10)
    def forward(self, x):
        return {key: self.fc(x.flatten(1)) for key in self.keys}
def one(): return Net("out")
def two(): return Net("features", "scores")
"""


def test_check_and_training_agree_on_which_output_is_the_prediction(checked: Check, plugins) -> None:
    entries = "[zoo.architectures]\none = acme:one\ntwo = acme:two\n"
    plugins.write("zoo-acme", entries, acme=DICTIONARY)
    text = "model: acme/{}\ndata: {{source: sklearn/digits, image_size: 8, batch_size: 256}}\nsteps: [{}]\n"
    assert checked(text.format("one", "{train: 1}")).ok
    finetune("recipe.yaml", output="out")
    said = "the model returns 2 outputs (features, scores), and none is called logits or out"
    for step in ("{train: 1}", "evaluate"):
        (message,) = errors(checked(text.format("two", step)))
        assert said in message
        with pytest.raises(InputError, match=re.escape(said)):
            finetune("recipe.yaml", output="out2")
    assert checked(text.format("two", "save")).ok, "what is only saved needs no prediction"
