"""What a run will take, tried out on a few samples; and a time for a run, shared out by that."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

import zoo
from zoo.cache import cache_folder
from zoo.errors import InputError
from zoo.finetuning.estimate import StepCost, estimate, share_time
from zoo.finetuning.trial import copies
from zoo.recipe import load_recipe
from zoo.steps.train import Train
from zoo.training.callbacks import Listener

DATA = {"source": "sklearn/digits", "image_size": 32, "batch_size": 8, "limit": 100, "workers": 0}
RECIPE = {
    "precision": "float32",
    "model": "timm/test_resnet",
    "data": DATA,
    "steps": [
        {"swap_head": "auto"},
        {"freeze": "all_but_head"},
        "probe",
        {"train": {"epochs": 10, "lr": 0.01}},
        {"freeze": "none"},
        {"train": {"epochs": 4, "lr": 0.001, "optimizer": "AdamW"}},
        "evaluate",
    ],
}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 0, 0]),
        ({"ema": 0.9}, [0, 0, 0]),  # which the state that is tried out has
        ({"keep": "best"}, [1, 1, 1]),
        ({"early_stopping": 2}, [1, 1, 1]),
        ({"average": {"last": 3}}, [3, 3, 2]),
        ({"average": "greedy"}, [4, 3, 2]),
        ({"average": {"swa": 3}}, [2, 2, 0]),
        ({"average": {"swa": 0.5}}, [2, 2, 2]),
    ],
)
def test_the_last_states_have_the_best_epoch_and_an_averages_members(options, expected):
    step = Train(epochs=4, **options)
    assert [copies(step, epoch) for epoch in (4, 3, 2)] == expected


def written(folder: Path, **changes) -> str:
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE | changes))
    return str(folder / "recipe.yaml")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("estimate")
    before = torch.get_rng_state()
    found = estimate(load_recipe(written(folder)))
    assert torch.equal(before, torch.get_rng_state())
    assert [path.name for path in folder.iterdir()] == ["recipe.yaml"]
    return found


def test_each_step_is_in_it_and_they_add_up(found):
    assert [row.step for row in found.steps] == [3, 4, 6, 7]
    assert [row.action for row in found.steps] == ["probe", "train", "train", "evaluate"]
    assert found.seconds == pytest.approx(sum(row.seconds for row in found.steps) + found.rest)
    cached, complete = found.steps[1], found.steps[2]
    assert (cached.epochs, complete.epochs) == (10, 4)
    assert complete.seconds == pytest.approx(complete.once + 4 * complete.epoch)
    assert cached.epoch < complete.epoch  # behind a frozen backbone
    assert (found.tried, found.samples) == (32, 100)
    assert 0 < found.end < found.rest


def test_the_disk_is_that_of_the_files(found, tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    run = zoo.finetune(written(tmp_path), output=tmp_path / "run", progress=Listener())
    folder = sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file())
    assert found.folder == pytest.approx(folder, rel=0.05)
    features = list((cache_folder() / "features").rglob("*.safetensors"))
    assert found.features == pytest.approx(sum(path.stat().st_size for path in features), rel=0.5)  # headers are small
    weights = run.checkpoint.stat().st_size
    assert found.state == pytest.approx(weights + 3 * 3 * weights, rel=0.1)  # AdamW keeps two values beside each


def test_nothing_stays_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    data = DATA | {"test_fraction": 0.2}
    estimate(load_recipe(written(tmp_path, data=data, steps=[*RECIPE["steps"][:2], {"train": 1}])))
    assert not [path for path in (tmp_path / "cache").rglob("*") if "features" in path.parts or "looks" in str(path)]


def test_a_time_budget_is_what_its_step_takes(tmp_path):
    steps = [{"swap_head": "auto"}, {"train": {"time_budget": "1h"}}, {"train": {"time_budget": "1h", "max_steps": 2}}]
    found = estimate(load_recipe(written(tmp_path, steps=steps)))
    assert found.steps[0].seconds == 3600
    assert found.steps[0].epochs > 100
    assert found.steps[1].seconds < 60


def test_without_data_there_is_none(tmp_path):
    recipe = {"model": "timm/test_resnet", "steps": [{"freeze": "all"}]}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(InputError, match="an estimate needs data"):
        estimate(load_recipe(str(tmp_path / "recipe.yaml")))


def test_nothing_is_downloaded_for_it(tmp_path):
    data = {"source": "torchvision/MNIST", "root": "data", "download": True, "image_size": 32}
    with pytest.raises(InputError, match="the data: not on this machine yet, so that what a run takes cannot be tried"):
        estimate(load_recipe(written(tmp_path, data=data)))


def test_what_is_no_time_is_refused(tmp_path):
    with pytest.raises(InputError, match="--within: 'ten minutes' is no time such as 10m, 1h30m or 45s"):
        share_time(load_recipe(written(tmp_path)), "ten minutes")


def test_in_words():
    assert str(StepCost(3, "probe", 61.0, 61.0)) == "step 3 probe: 1:01"
    assert str(StepCost(4, "train", 90.0, 10.0, 20.0, 4)) == "step 4 train: 1:30 (4 epochs of 20.0 s, 10.0 s before)"


def test_a_run_within_a_time_leaves_the_plan_that_repeats_it(tmp_path):
    path = written(tmp_path, steps=[{"swap_head": "auto"}, {"train": {"epochs": 2000, "lr": 0.01}}])
    run = zoo.finetune(path, within="4s", output=tmp_path / "run", progress=Listener())
    (stage,) = run.report["stages"][-1:]
    assert stage["epochs"][-1]["steps"] == stage["plan"][-1][1] < 2000 * 13
    left = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())["steps"][1]["train"]
    assert left["planned"] == stage["plan"]
    assert zoo.reproduce(tmp_path / "run", progress=Listener()).equal
