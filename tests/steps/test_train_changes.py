"""What changes a train step's samples: what a check refuses and warns of, what a run mixes, says and records."""

from __future__ import annotations

import pytest
import torch

from zoo.preflight import check

MODEL = "model: {architecture: timm/test_resnet, arguments: {num_classes: 10}}\n"
DATA = "data: {source: sklearn/digits, limit: 40, image_size: 32, batch_size: 8, workers: 0EXTRA}\nsteps:\n"
FROZEN = "  - freeze: {policy: below, module: layer4}\n"


def text(options, *, frozen=True, **data):
    extra = "".join(f", {key}: {value}" for key, value in data.items())
    return MODEL + DATA.replace("EXTRA", extra) + (FROZEN if frozen else "") + f"  - train: {options}\n"


@pytest.mark.parametrize(
    ("options", "data", "said"),
    [
        (
            "{epochs: 1, cutmix: 1.0, feature_cache: kept}",
            {},
            "5:24: train.cutmix: feature_cache: kept trains on features, and boxes are cut out of images "
            "(write feature_cache: every_step and no views, or mixup in its place)",
        ),
        ("{epochs: 1, cutmix: 1.0, views: 2}", {"augmentation": "flip"}, "train.cutmix: views: 2 keeps features"),
        (
            "{epochs: 1, mixup: 0.2, loss: NLLLoss}",
            {},
            "5:36: train: mixup 0.2: NLLLoss takes one class a sample, and these samples have shares of several "
            "(cross_entropy, focal and bce take them; or write mixup: 0)",
        ),
        (
            "{epochs: 1, loss: MultiMarginLoss}",
            {"augmentation": "strong"},
            "5:24: train: mixup 0.2 or cutmix 1: MultiMarginLoss takes one class a sample, and these samples have "
            "shares of several (cross_entropy, focal and bce take them; or write mixup: 0 and cutmix: 0)",
        ),
        ("{epochs: 1, mixup: -1}", {}, "train.mixup: expected a number of at least 0, got -1"),
        ("{epochs: 1, mixing: 1}", {}, "unknown key 'mixing'"),
    ],
)
def test_what_is_wrong_with_it(mistakes, options, data, said):
    assert said in mistakes(text(options, **data))[0]


def test_a_batch_of_one_sample_has_nothing_to_mix(mistakes):
    found = mistakes(text("{epochs: 1, mixup: 0.2, batch_size: 1}", frozen=False))
    assert any(
        "5:24" not in each and "mixes the samples of a batch, and batches have one sample" in each for each in found
    )


@pytest.mark.parametrize(
    ("options", "data"),
    [
        ("{epochs: 1, mixup: 0.2, feature_cache: kept}", {}),
        ("{epochs: 1, mixup: 0.2, cutmix: 1.0}", {}),
        ("{epochs: 1, cutmix: 1.0, feature_cache: every_step}", {}),
        ("{epochs: 1, mixup: 0, cutmix: 0, loss: MultiMarginLoss}", {"augmentation": "strong"}),
        ("{epochs: 1, views: 2}", {"augmentation": "strong"}),
    ],
)
def test_what_works_together(read, options, data):
    verdict = check(read(text(options, **data)))
    assert [str(problem) for problem in verdict.errors + verdict.warnings] == []


@pytest.mark.parametrize(
    ("options", "data", "said"),
    [
        (
            "{epochs: 2, views: 3}",
            {},
            "5:24: train.views: 3 passes over the images, and nothing changes these: all are",
        ),
        (
            "{epochs: 2, views: 3, feature_cache: off}",
            {"augmentation": "flip"},
            "5:24: train.views: feature_cache: off keeps no features, so that there are no views of any (write featu",
        ),
    ],
)
def test_views_that_do_nothing_are_told(read, options, data, said):
    (warning,) = map(str, check(read(text(options, **data))).warnings)
    assert said in warning


def test_frozen_norms_alone_are_no_frozen_backbone(read):
    norms = text("{epochs: 9}", augmentation="light").replace("{policy: below, module: layer4}", "batchnorm")
    assert check(read(norms)).warnings == []


def test_a_check_says_how_often_a_frozen_backbone_runs(read):
    verdict = check(read(text("{epochs: 9}", augmentation="light")))
    (warning,) = map(str, verdict.warnings)
    assert warning.endswith(
        "5:5: train: augmentation: light: the frozen backbone runs on 9 x 40 images, as each epoch has others "
        "(views: 4 runs it on 4 x 40 images and keeps their features)"
    )
    for quiet in ("{epochs: 9, views: 4}", "{epochs: 4}", "{epochs: 9, feature_cache: off}"):
        assert check(read(text(quiet, augmentation="light"))).warnings == []
    assert check(read(text("{epochs: 9, mixup: 0.2, feature_cache: kept}"))).warnings == []


@pytest.mark.parametrize(
    ("options", "data", "cure", "followed"),
    [
        (
            "{epochs: 9, mixup: 0.2}",
            {},
            "feature_cache: kept (of mixed features) runs",
            "mixup: 0.2, feature_cache: kept",
        ),
        (
            "{epochs: 9, cutmix: 1}",
            {},
            "mixup in place of cutmix with feature_cache: kept",
            "mixup: 1, feature_cache: kept",
        ),
        ("{epochs: 9, mixup: 1, cutmix: 1}", {}, "cutmix: 0 with feature_cache: kept", "mixup: 1, feature_cache: kept"),
        ("{epochs: 9, cutmix: 1}", {"augmentation": "flip"}, "cutmix: 0 with views: 4 runs", "cutmix: 0, views: 4"),
        ("{epochs: 9, mixup: 1}", {"augmentation": "flip"}, "(views: 4 runs it on 4 x 40", "mixup: 1, views: 4"),
    ],
)
def test_what_avoids_that_works(read, options, data, cure, followed):
    (warning,) = map(str, check(read(text(options, **data))).warnings)
    assert cure in warning
    verdict = check(read(text(f"{{epochs: 9, {followed}}}", **data)))
    assert verdict.errors + verdict.warnings == []


def trained(started, options, *, frozen=True, **data):
    run = started(text(options, frozen=frozen, **data))
    for step in run.recipe.steps:
        step.run(run)
    return run


def losses(run):
    return [epoch["loss"] for epoch in run.stages[-1]["epochs"]]


def test_mixing_in_front_of_a_frozen_backbone_is_mixing_end_to_end(started):
    options = "{epochs: 2, lr: 0.01, mixup: 0.4, cutmix: 1.0, feature_precision: exact, feature_cache: "
    behind, whole = (trained(started, f"{options}{use}}}") for use in ("auto", "off"))
    assert behind.stages[-1]["feature_cache"]["use"] == "every_step"
    assert losses(behind) == pytest.approx(losses(whole), rel=1e-5)
    for run in (behind, whole):
        assert run.stages[-1]["mixing"] == {"mixup": 0.4, "cutmix": 1.0}
        assert "train: mixup 0.4 or cutmix 1 mixes the samples of each batch in pairs" in run.listener.notes
    plain = trained(started, "{epochs: 2, lr: 0.01, feature_precision: exact}")
    assert losses(plain)[0] != pytest.approx(losses(whole)[0], rel=1e-3)
    assert plain.stages[-1]["mixing"] == {}


def test_kept_features_are_mixed_themselves(started):
    run = trained(started, "{epochs: 2, mixup: 0.4, feature_cache: kept}")
    record = run.stages[-1]
    assert record["feature_cache"]["use"] == "kept"
    assert record["mixing"] == {"mixup": 0.4, "of": "features"}
    assert "train: mixup 0.4 mixes the kept features (manifold mixup) of each batch in pairs" in run.listener.notes


def test_strong_mixes_and_says_what_it_is(started):
    run = trained(started, "{epochs: 1}", frozen=False, augmentation="strong")
    record = run.stages[-1]
    assert record["mixing"] == {"mixup": 0.2, "cutmix": 1.0}
    assert [next(iter(each)) for each in record["changes"]] == ["RandomResizedCrop", "RandAugment", "RandomErasing"]
    assert (
        "train: augmentation: strong is RandomResizedCrop, RandAugment, RandomErasing; images without colour are not "
        "mirrored"
    ) in run.listener.notes
    kept = trained(started, "{epochs: 1, views: 2}", augmentation="strong")
    assert kept.stages[-1]["mixing"] == {"mixup": 0.2, "of": "features"}  # features have no boxes to cut


def test_the_first_batch_is_the_trainers(started):
    """The same mixture that the loop trains on is drawn."""
    from zoo.data.mixing import MixedBatches, Mixing
    from zoo.finetuning.first_batch import photographs, write_first_batch

    run = started(text("{epochs: 1, mixup: 0.4}", frozen=False))
    mixing = Mixing(mixup=0.4)
    assert write_first_batch(run.folder, run.data, batch_size=None, seed=None, mixing=mixing)
    images = run.data.batches("train")
    mixed = MixedBatches(images, mixing, task="classification", outputs=10, seed=images.order.seed)
    expected = photographs(next(mixed.epoch(0)).inputs, run.data.preprocessing)
    from torchvision.io import decode_image

    drawn = decode_image(str(run.folder / "first_batch.jpg"))
    assert (drawn.float() - expected.float()).abs().mean() < 3
    write_first_batch(run.folder, run.data, batch_size=None, seed=None)
    unmixed = decode_image(str(run.folder / "first_batch.jpg"))
    assert (unmixed.float() - expected.float()).abs().mean() > 6
    assert torch.equal(expected, expected.clamp(0, 255))
