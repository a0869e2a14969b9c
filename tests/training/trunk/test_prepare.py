"""Training behind a trunk is training: the same losses as the whole model's, whatever is frozen and however it runs."""

import re

import pytest
import torch
import yaml
from torch import nn

from listeners import Notes
from zoo.data.batches import Order
from zoo.finetuning.finetune import finetune
from zoo.training.callbacks import Listener
from zoo.training.trunk import prepare as prepare_module
from zoo.training.trunk.engine import exact_engine
from zoo.training.trunk.prepare import same_trunk, split_for
from zoo.training.trunk.store import Features

ASKED = ("float32", "bfloat16", "mixed")
LAST_STAGE = {"policy": "below", "module": "layer4"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def run(tmp_path):
    def finetuned(freeze, train, name="run", listener=None, steps=(), **data):
        recipe = {
            "name": name,
            "model": {"architecture": "timm/test_resnet"},
            "data": {"source": "sklearn/digits", "image_size": 32, "batch_size": 32, "limit": 120, **data},
            "steps": [{"swap_head": {"num_classes": "auto"}}, *steps, {"freeze": freeze}, {"train": train}],
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(recipe, sort_keys=False))
        return finetune(path, output=tmp_path / name, overwrite=True, progress=listener or Listener()).report

    return finetuned


def losses(report):
    return [(epoch["loss"], epoch["validation"]["loss"]) for epoch in report["stages"][-1]["epochs"]]


@pytest.mark.parametrize("freeze", ["all_but_head", LAST_STAGE], ids=["head", "last stage"])
def test_float32_losses_are_the_whole_models(run, freeze):
    options = {"epochs": 3, "lr": 0.01, "precision": "float32"}
    plain = run(freeze, {**options, "feature_cache": "off"}, "plain")
    behind = run(freeze, options, "behind")
    assert behind["stages"][-1]["feature_cache"]["method"] == "fx"
    for one, other in zip(losses(plain), losses(behind), strict=True):
        assert other == pytest.approx(one, rel=1e-6, abs=1e-6)


@pytest.mark.slow
def test_default_precision_stays_close(run):
    options = {"epochs": 3, "lr": 0.01}
    plain = run("all_but_head", {**options, "feature_cache": "off"}, "plain")
    behind = run("all_but_head", options, "behind")
    for one, other in zip(losses(plain), losses(behind), strict=True):
        assert other == pytest.approx(one, rel=0.05)


@pytest.mark.slow
def test_second_run_takes_the_features_of_the_first(run, monkeypatch):
    from zoo.training.trunk import engine

    options = {"epochs": 1, "lr": 0.01, "precision": "float32"}
    first = run("all_but_head", options, "first")
    calls = []
    original = engine.Engine.__call__
    monkeypatch.setattr(engine.Engine, "__call__", lambda self, x: calls.append(len(x)) or original(self, x))
    second = run("all_but_head", {**options, "lr": 0.02}, "second")
    assert sum(calls) <= 8  # the example that sizes the features, not the data
    assert losses(first) != losses(second)


@pytest.mark.slow
def test_pixels_are_not_kept_beside_their_features(run, monkeypatch):
    from zoo.data import samples

    kept = []
    monkeypatch.setattr(samples.Fetcher, "_store", lambda self, position, sample: kept.append(position))
    run("all_but_head", {"epochs": 2, "lr": 0.01})
    run("all_but_head", {"epochs": 1, "lr": 0.01}, "after_probe", steps=({"probe": None},))
    assert not kept


@pytest.mark.slow
def test_changed_weights_or_data_are_not_served_stale_features(run):
    options = {"epochs": 1, "lr": 0.01, "precision": "float32"}
    run("all_but_head", options, "first")
    changed = run("all_but_head", options, "other", steps=[{"init": {"match": r"^conv1\.0$", "weight": "ones"}}])
    plain = run(
        "all_but_head",
        {**options, "feature_cache": "off"},
        "plain",
        steps=[{"init": {"match": r"^conv1\.0$", "weight": "ones"}}],
    )
    assert losses(changed)[0] == pytest.approx(losses(plain)[0], rel=1e-6)
    smaller = run("all_but_head", options, "smaller", image_size=48)
    plain = run("all_but_head", {**options, "feature_cache": "off"}, "plain2", image_size=48)
    assert losses(smaller)[0] == pytest.approx(losses(plain)[0], rel=1e-6)


def test_random_augmentation_runs_the_trunk_at_every_step_and_says_so(run):
    notes = Notes()
    options = {"epochs": 2, "lr": 0.01, "precision": "float32"}
    behind = run("all_but_head", options, "behind", notes, augmentation="flip")
    plain = run("all_but_head", {**options, "feature_cache": "off"}, "plain", augmentation="flip")
    (said,) = [line for line in notes.notes if "views: 4" in line]
    assert re.match(
        r"augmentation: flip: images change .* frozen backbone \([\d,]+ images/s\) take up to [\d.]+ s", said
    )
    cost, samples = behind["stages"][-1]["feature_cache"]["cost"], behind["stages"][-1]["samples"]
    assert said.endswith(f" and {cost['bytes_per_sample'] * samples * 4 / 1e6:.1f} MB")
    for one, other in zip(losses(plain), losses(behind), strict=True):
        assert other == pytest.approx(one, rel=1e-6, abs=1e-6)


def test_views_keep_augmented_passes(run):
    options = {"epochs": 4, "lr": 0.01, "views": 2}
    report = run("all_but_head", options, "views", augmentation="flip")
    assert "2 views" in report["stages"][-1]["feature_cache"]["features"]


def test_what_cannot_be_split_trains_the_plain_way_and_says_why(run):
    notes = Notes()
    bias_only = {"policy": "pattern", "patterns": [r"^layer4\."]}  # the stem trains: nothing in front is fixed
    report = run(bias_only, {"epochs": 1, "lr": 0.01}, "plain", notes)
    assert report["stages"][-1]["feature_cache"]["method"] == "end to end"
    assert any("trained end to end" in line for line in notes.notes)


@pytest.mark.parametrize(("between", "shared"), [(nn.ReLU(), True), (nn.Dropout(0.5), False)], ids=["relu", "dropout"])
def test_training_and_validation_share_an_engine_where_their_trunks_are_the_same(between, shared):
    model = nn.Sequential(nn.Linear(8, 8), between, nn.Linear(8, 8).requires_grad_(False), nn.Linear(8, 2))
    model[0].requires_grad_(False)
    example = torch.randn(4, 8)
    training, validation = (split_for(model, example, training=mode) for mode in (True, False))
    assert same_trunk(training.trunk, validation.trunk) == shared
    expected = model.eval()(example)
    assert torch.equal(validation.rest(*exact_engine(validation.trunk)(example)), expected)


def test_precision_of_features_is_recorded_and_can_be_asked_for(run):
    options = {"epochs": 1, "lr": 0.01}
    reports = {asked: run("all_but_head", options | {"feature_precision": asked}, asked, limit=24) for asked in ASKED}
    stages = {asked: report["stages"][-1] for asked, report in reports.items()}
    assert {asked: stage["feature_precision"] for asked, stage in stages.items()} == {name: name for name in ASKED}
    trained = [losses(report) for report in reports.values()]
    assert trained[0] != trained[1] != trained[2] != trained[0]
    for one, other in ((trained[0], trained[1]), (trained[0], trained[2])):
        for values, others in zip(one, other, strict=True):
            assert others == pytest.approx(values, rel=0.05)


@pytest.mark.slow
def test_best_epoch_is_chosen_on_float32s_features(run):
    """The validation losses of a head that trains on bfloat16 features are those of the head in float32."""
    options = {"epochs": 1, "lr": 1e-9, "feature_precision": "bfloat16"}  # the head stays what the seed made it
    exact = run("all_but_head", {"epochs": 1, "lr": 1e-9, "precision": "float32"}, "exact", limit=24)
    last, best = (run("all_but_head", options | {"keep": keep}, keep, limit=24) for keep in ("last", "best"))
    wanted = losses(exact)[0][1]
    assert losses(best)[0][1] == pytest.approx(wanted, rel=1e-6)
    assert losses(last)[0][1] != pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(("samples", "batch"), [(23, 6), (12, 6), (5, 6)])
def test_features_of_all_processes_lie_where_their_samples_are(samples, batch, monkeypatch):
    values = torch.arange(samples)

    def share(rank):
        own = torch.cat([chunk[rank::2] for chunk in values.split(batch)])
        return Features([{"feature_00": own[:, None] + 0.5, "targets": own}], samples)

    shares = [share(rank) for rank in range(2)]
    monkeypatch.setattr(prepare_module, "gather_object", lambda own: [each.everything() for each in shares])
    for rank in range(2):
        order = Order(samples, batch, seed=0, shuffle=True, rank=rank, world=2)
        (features,), targets = prepare_module.gathered(shares[rank], order).everything()
        assert torch.equal(targets, values)
        assert torch.equal(features, values[:, None] + 0.5)
