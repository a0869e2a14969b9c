"""The step `train`: what it may say, what a check tries, what it writes, its row. What it does is tested with runs."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from zoo.cli.check import command
from zoo.preflight import check
from zoo.steps.train import Train

MODEL = "model: tutorial/fashion_mlp\ndata: {source: sklearn/digits, limit: 20, image_size: 28}\nsteps:\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", "4:5: train: epochs is missing (write epochs, max_steps or time_budget)"),
        (
            "{epochs: 1, warmup: 1.5}",
            "4:32: train.warmup: 1.5 is neither a share below 1 nor an integer number of steps",
        ),
        ("{epochs: 1, lr_scale: {'(': 2}}", "train.lr_scale: '(' is not a regular expression"),
        ("{epochs: 1, loss: {HuberLoss: {}}, label_smoothing: 0.1}", "does nothing with the loss HuberLoss"),
        ("{epochs: 1, optimizer: {SGD: {nesterov: true}}}", "optimizer SGD: Nesterov momentum requires"),
        ("{epochs: 1, scheduler: {step: {gamma: x}}}", "expected"),
        ("{epochs: 1, loss: {cross_entropy: {weight: [1, 2]}}}", "4:24: loss CrossEntropyLoss: weight has 2 values"),
        ("{epochs: 1, loss: {focal: {weight: [1, 2]}}}", "4:24: loss zoo/focal: weight has 2 values, the data has 10"),
        ("{epochs: 1, class_weights: {1O: 2}}", "4:40: class_weights: there is no class '1O' (did you mean 1?)"),
        ("{epochs: 1, class_weights: {1: -2}}", "train.class_weights: '1' counts -2, less than nothing (write"),
        ("{epochs: 1, class_weights: rare}", "4:39: train.class_weights"),
        ("{epochs: 1, class_weights: balanced, loss: mse}", "class_weights does nothing with the loss mse"),
        (
            "{epochs: 1, class_weights: balanced, loss: {cross_entropy: {weight: [1, 2, 3, 4, 5, 6, 7, 8, 9, 1]}}}",
            "class_weights goes into the loss cross_entropy, which has weights of its own (remove one of them)",
        ),
        ("{epochs: 1, sampler: weighted}", "4:33: train.sampler"),
        ("{epochs: 1, scheduler: {plateau: {mode: min}}}", "4:35: scheduler plateau: mode is min, but accuracy"),
        ("{epochs: 9, scheduler: {one_cycle: {total_steps: 5}}}", "4:35: scheduler one_cycle: total_steps is 5, and"),
        ("{time_budget: 10 minutes}", "4:26: train.time_budget: expected a string such as 10m, 1h30m or 45s, got"),
        ("{time_budget: 90}", "4:26: train.time_budget: expected a string such as 10m, 1h30m or 45s, got 90"),
        ("{time_budget: 0s}", "4:26: train.time_budget: expected a string such as 10m, 1h30m or 45s"),
        ("{planned: [[0, 4], [9, 12], [5, 7]]}", "4:22: train.planned: a plan begins with optimizer step 0, and its"),
        ("{planned: [[0, 4], [3, 7], [3, 9]]}", "4:22: train.planned: a plan begins with optimizer step 0, and its"),
        ("{planned: [[3, 4]]}", "4:22: train.planned: a plan begins with optimizer step 0, and its steps rise (write"),
        (
            "{epochs: 1, scheduler: {CosineLRScheduler: {warmup_t: 3}}}",
            "train.scheduler.CosineLRScheduler: warmup is an option of the step (write warmup beside it)",
        ),
        ("{epochs: 1, scheduler: {WSDLRScheduler: {}}}", "train.scheduler.WSDLRScheduler: decay_t is missing"),
        (
            "{epochs: 1, gradient_checkpointing: true, compile: true}",
            "4:24: train.gradient_checkpointing: not with compile, which decides itself what to compute again",
        ),
        (
            "{epochs: 1, gradient_checkpointing: true, feature_cache: kept}",
            "4:24: train.gradient_checkpointing: not with a feature cache",
        ),
        ("{epochs: 1, batch_size: all}", "4:36: train.batch_size: expected an integer above 0 or auto, got 'all'"),
        (
            "{epochs: 1, keep: {best: val_loss}}",
            "no metric is called 'val_loss' (write loss: what chooses is measured on",
        ),
        (
            "{epochs: 1, early_stopping: {patience: 1, metric: val_accuracy}}",
            "no metric is called 'val_accuracy' (did you mean accuracy",
        ),
        ("{epochs: 1, trunk: off}", "train: trunk is called feature_cache (write feature_cache)"),
    ],
)
def test_what_is_wrong_with_it(mistakes, options, said):
    assert said in mistakes(f"{MODEL}  - train: {options}\n")[0]


POOLED = """
model: tutorial/fashion_mlp
data: {{source: sklearn/digits, limit: {limit}, image_size: 28, batch_size: {size}}}
steps:
  - add_module: {{name: norm, module: {{BatchNorm1d: {{num_features: 10}}}}}}
  - train: {options}
"""


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"size": 1}, "2:71: train: batch_size 1: batch norm cannot train on a single sample (write 2 or more)"),
        ({"options": "{epochs: 1, batch_size: 1}"}, "5:36: train: batch_size 1: batch norm cannot train"),
        ({"limit": 1}, "train: the training part has one sample: batch norm cannot train on a single sample (more im"),
    ],
)
def test_a_batch_of_one_sample_is_told_before_training(mistakes, values, said):
    found = mistakes(POOLED.format(**{"limit": 20, "size": 8, "options": "{epochs: 1}", **values}).lstrip())
    assert [said in message for message in found] == [True], found


def test_a_warm_up_longer_than_training_is_told_before_it(read):
    verdict = check(read(MODEL + "  - train: {epochs: 2, warmup: 500}\n"))
    (said,) = map(str, verdict.warnings)
    assert verdict.ok
    assert said.startswith(
        "recipe.yaml:4:32: train: a warm-up of 500 steps, and training has 2: the learning rate never"
    )


def test_a_time_budget_is_enough_to_say_how_long_training_is(read):
    verdict = check(read(MODEL + "  - train: {time_budget: 1h30m, warmup: 500}\n"))
    assert verdict.ok
    assert not verdict.warnings


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            "{epochs: 2, average: {last: 5}}",
            "4:24: train.average: last: 5 epochs, and training has 2 epochs (write epo",
        ),
        (
            "{epochs: 1, average: {swa: 2}}",
            "4:24: train.average: swa: from epoch 2 on, and training has 1 epoch (write",
        ),
        (
            "{max_steps: 1, average: {last: 2}}",
            "last: 2 epochs, and training has 1 epoch (write epochs: 2, or a smaller",
        ),
        ("{epochs: 2, feature_cache: kept}", "4:39: train: feature_cache: kept, and nothing is frozen: there are no"),
        (
            "{epochs: 2, views: 3}",
            "4:24: train: views: 3, and nothing is frozen: there are no features to keep (put fre",
        ),
    ],
)
def test_what_does_nothing_is_told(read, options, said):
    (warning,) = map(str, check(read(MODEL + f"  - train: {options}\n")).warnings)
    assert said in warning


@pytest.mark.parametrize("average", ["{last: 2}", "{swa: 2}", "{swa: 0.9}", "greedy"])
def test_an_average_of_what_there_is_is_not_warned_of(read, average):
    for length in ("epochs: 2", "time_budget: 1h"):
        assert check(read(MODEL + f"  - train: {{{length}, average: {average}}}\n")).warnings == []


def test_a_check_says_what_an_epoch_of_even_draws_is(read):
    verdict = check(read(MODEL + "  - train: {epochs: 1, sampler: balanced, class_weights: balanced}\n"))
    assert verdict.notes[0].startswith(
        "train: sampler: balanced: an epoch is 20 draws with replacement, about 2 of each"
    )
    assert str(verdict.warnings[0]).startswith("recipe.yaml:4:33: train: class_weights: balanced and sampler: b")


def test_two_samples_are_enough_for_batch_norm(read):
    assert check(read(POOLED.format(limit=2, size=2, options="{epochs: 1}").lstrip())).ok


def test_nothing_to_train_names_the_freeze_step(mistakes):
    (said,) = mistakes(MODEL + "  - freeze: all\n  - train: 1\n")
    assert said.startswith(
        "recipe.yaml:5:5: train: there is nothing to train: the freeze step in line 4 leaves nothing"
    )


def test_nothing_to_run_again_is_told_before_training(mistakes):
    recipe = """
model: {architecture: timm/test_resnet, arguments: {num_classes: 10}}
data: {source: sklearn/digits, limit: 20, image_size: 32}
steps:
  - freeze: all_but_head
  - train: {epochs: 1, gradient_checkpointing: true}
"""
    assert mistakes(recipe.lstrip()) == [
        "recipe.yaml:5:24: train.gradient_checkpointing: no block of the network trains, so that none keeps anything "
        "for the backward pass (remove it)"
    ]


def test_a_check_counts_what_trains(read):
    verdict = check(read(MODEL + "  - freeze: all_but_head\n  - train: 1\n"))
    assert [(stage.action, stage.trainable) for stage in verdict.stages] == [("train", 512 * 10 + 10)]


def test_what_it_writes():
    assert Train(epochs=1).files == frozenset()
    assert Train(epochs=1, trackers=["tensorboard"]).files == {"tensorboard"}


def test_its_row():
    epoch = {"loss": 0.25, "images_per_second": 100.4}
    record = {
        "step": 3,
        "action": "train",
        "epochs": [epoch, epoch | {"loss": 0.125}],
        "kept_epoch": 1,
        "metrics": {"loss": 0.5, "accuracy": 0.75},
        "trainable": 1200,
        "frozen": 0,
        "seconds": 1.26,
    }
    assert Train.row(record) == {
        "step": "3",
        "action": "train",
        "epochs": "2 (kept 1)",
        "loss": "0.1250",
        "metrics": "accuracy 0.7500",
        "trainable": "1,200",
        "frozen": "0",
        "images/s": "100",
        "seconds": "1.3",
    }
    assert Train.row(record | {"epochs": [], "kept_epoch": 0})["images/s"] == ""


THAWING = """
model: {architecture: timm/test_resnet, arguments: {num_classes: 10}}
data: {source: sklearn/digits, image_size: 32, limit: 20, batch_size: 10}
steps:
  - train: OPTIONS
"""
SHOWN = "{epochs: 4, layer_decay: 0.7, unfreeze_gradually: {every: 2, groups: [layer4, layer3]}}"


def test_check_shows_the_phases_and_rates_that_the_page_shows(read, capsys):
    page = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text(encoding="utf-8")
    assert f"`train: {SHOWN}`" in " ".join(page.split())
    read("\n" + THAWING.replace("OPTIONS", SHOWN))
    command("recipe.yaml")
    said = capsys.readouterr()
    shown = page[page.index("    train    line") : page.index("(`timm/test_resnet`")].rstrip()
    assert textwrap.dedent(shown) in said.out
    assert said.err.startswith(
        "warning: recipe.yaml:6:90: train.unfreeze_gradually: training has 4 epochs, and layer3 would thaw behind them "
        "(write epochs: 6, or a smaller every)"
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            "{epochs: 2, unfreeze_gradually: {groups: [layre4]}}",
            "4:54: unfreeze_gradually: 'layre4' finds nothing that",
        ),
        ("{epochs: 2, unfreeze_gradually: {groups: ['(']}}", "4:54: train.unfreeze_gradually: '(' is not a regular"),
        ("{epochs: 2, unfreeze_gradually: {groups: []}}", "expected stages or blocks or a list that is not empty"),
        ("{epochs: 2, unfreeze_gradually: 0}", "train.unfreeze_gradually: expected an integer above 0"),
        (
            "{epochs: 2, unfreeze_gradually: 1, feature_cache: kept}",
            "4:62: train.feature_cache: kept: unfreeze_gradually",
        ),
        (
            "{epochs: 2, optimizer_state: carried}",
            "4:41: train.optimizer_state: carried: no train step stands in front",
        ),
        ("{epochs: 2, weight_decay: 0.1, optimizer: {AdamW: {weight_decay: 0.2}}}", "AdamW has one of its own (remove"),
    ],
)
def test_what_is_wrong_with_its_unfreezing_and_its_optimizer(mistakes, options, said):
    (found,) = mistakes(THAWING.lstrip().replace("OPTIONS", options))
    assert said in found, found


def test_what_was_frozen_in_front_leaves_nothing_to_thaw_and_the_cure_works(mistakes, read):
    text = THAWING.lstrip().replace(
        "  - train: OPTIONS", "  - freeze: all_but_head\n  - train: {epochs: 2, unfreeze_gradually: 1}"
    )
    (said,) = mistakes(text)
    assert "nothing outside the head trains, so there is nothing to thaw (leave the freeze step out" in said
    assert check(read(text.replace("  - freeze: all_but_head\n", ""))).ok


def test_a_state_is_carried_on_between_equal_optimizers_alone(mistakes, read):
    steps = "  - train: {epochs: 1, optimizer: SGD}\n  - train: {epochs: 1, optimizer: OTHER, optimizer_state: carried}"
    text = THAWING.lstrip().replace("  - train: OPTIONS", steps)
    (said,) = mistakes(text.replace("OTHER", "Adam"))
    assert "carried: the train step in line 4 has the optimizer SGD, this one Adam (give both the same" in said
    (said,) = mistakes(text.replace("OTHER", "{SGD: {momentum: 0.9}}"))
    assert "has the optimizer SGD with other arguments" in said
    assert check(read(text.replace("OTHER", "{SGD: {weight_decay: 0.1}}"))).ok
