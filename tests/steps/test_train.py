"""The step `train`: what it may say, what a check tries, what it writes, its row. What it does is tested with runs."""

from __future__ import annotations

import pytest

from zoo.preflight import check
from zoo.steps.train import Train

MODEL = "model: tutorial/fashion_mlp\ndata: {source: sklearn/digits, limit: 20, image_size: 28}\nsteps:\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", "4:5: train: epochs is missing (write epochs, or max_steps)"),
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
        (
            "{epochs: 1, scheduler: {CosineLRScheduler: {warmup_t: 3}}}",
            "train.scheduler.CosineLRScheduler: warmup is an option of the step (write warmup beside it)",
        ),
        ("{epochs: 1, scheduler: {WSDLRScheduler: {}}}", "train.scheduler.WSDLRScheduler: decay_t is missing"),
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
