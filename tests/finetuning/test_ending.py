"""The recipe that a run leaves: what was chosen by timing or tolerance is in it, and it gives the same bits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from listeners import Killed, Killing
from zoo.finetuning.finetune import finetune
from zoo.recipe import load_recipe
from zoo.steps import train_job as train_module
from zoo.training import autotune
from zoo.training.callbacks import Listener

RECIPE = {
    "seed": 3,
    "model": "timm/test_resnet",
    "data": {"source": "sklearn/digits", "image_size": 32, "batch_size": 32, "limit": 64, "workers": 0},
    "steps": [
        {"swap_head": "auto"},
        {"freeze": "all_but_head"},
        "probe",
        {"freeze": {"policy": "below", "module": "layer3"}},
        {"train": {"epochs": 2, "lr": 0.01}},
        {"freeze": "none"},
        {"train": {"max_steps": 2, "lr": 0.001}},
    ],
}


def written(folder: Path, **changes) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, **changes}))
    return path


def same(first: Path, second: Path) -> bool:
    mine, theirs = (load_file(folder / "model.safetensors") for folder in (first, second))
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def report(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def steps_of(folder: Path) -> list[dict]:
    return yaml.safe_load((folder / "recipe.yaml").read_text())["steps"]


@pytest.fixture
def timed(monkeypatch):
    """All training is worth timing, and channels-last is the fastest: the choice that a rule would not make."""

    def channels_last(step, settings, expected, seconds):
        step(settings[-1])
        return {setting: 2.0 - setting.channels_last for setting in settings[:2]}, False

    monkeypatch.setattr(autotune, "WORTH_TIMING", 0.0)
    monkeypatch.setattr(autotune, "PAYS", 0.0)
    monkeypatch.setattr(autotune, "_time_all", channels_last)


def test_the_pinned_recipe_gives_the_same_bits_where_timing_decides(tmp_path, timed, monkeypatch):
    first, again = tmp_path / "first", tmp_path / "again"
    finetune(str(written(tmp_path)), output=first, progress=Listener())
    pins = {"precision": "float32", "memory_layout": "channels_last"}
    probe, half, whole = (next(iter(steps_of(first)[index].values())) for index in (2, 4, 6))
    assert probe["feature_precision"] in ("float32", "bfloat16", "mixed")
    assert half.items() >= {**pins, "feature_cache": "kept"}.items()
    assert half["feature_precision"] in ("float32", "bfloat16", "mixed")
    assert whole.items() >= pins.items()

    def timing(*arguments, **keywords):
        raise AssertionError("nothing is left to timing")

    monkeypatch.setattr(train_module, "choose_setting", timing)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))  # features are computed again
    finetune(str(first / "recipe.yaml"), output=again, progress=Listener())
    assert same(first, again)
    assert report(first)["ladder"] == report(again)["ladder"]
    assert steps_of(first) == steps_of(again)
    plain = load_recipe(str(written(tmp_path)), [f"steps[{index}].train.memory_layout=contiguous" for index in (4, 6)])
    finetune(plain, output=tmp_path / "plain", overwrite=True, precision="float32", progress=Listener())
    assert not same(first, tmp_path / "plain"), "the choice is one that shows"


def test_a_resumed_run_keeps_what_it_chose_whatever_timing_says_now(tmp_path, timed, monkeypatch):
    recipe = written(tmp_path, steps=RECIPE["steps"][:2] + RECIPE["steps"][3:5])
    whole, run = tmp_path / "whole", tmp_path / "run"
    finetune(str(recipe), output=whole, progress=Listener())
    with pytest.raises(Killed):
        finetune(str(recipe), output=run, progress=Killing(epoch=1))
    monkeypatch.setattr(
        train_module, "choose_setting", lambda *given, **named: autotune.Choice(autotune.Setting(), {}, 0)
    )
    finetune(str(recipe), output=run, resume=True, progress=Listener())
    assert same(whole, run)
    assert report(whole)["ladder"] == report(run)["ladder"]
    assert steps_of(whole) == steps_of(run)


def test_features_that_are_not_kept_are_pinned_too(tmp_path):
    data = {**RECIPE["data"], "augmentation": "flip"}
    steps = [*RECIPE["steps"][:2], {"train": {"max_steps": 1, "feature_precision": "exact"}}]
    finetune(str(written(tmp_path, data=data, steps=steps)), output=tmp_path / "run", progress=Listener())
    options = steps_of(tmp_path / "run")[2]["train"]
    assert (options["feature_cache"], options["feature_precision"]) == ("every_step", "exact")


def test_files_and_what_the_command_line_says_are_written_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    finetune(str(written(tmp_path, data=None, steps=[{"swap_head": 7}])), output="first", progress=Listener())
    (tmp_path / "first" / "model.safetensors").rename(tmp_path / "base.safetensors")
    (tmp_path / "rules.yaml").write_text("- rename: {'^fc\\.': 'fc.'}\n")
    model = {
        "architecture": "timm/test_resnet",
        "weights": "base.safetensors",
        "remap": ["rules.yaml"],
        "min_coverage": 0,
    }
    steps = [{"swap_head": 7}, {"load": {"weights": "base.safetensors"}}]
    finetune(
        str(written(tmp_path, data=None, model=model, steps=steps)), output="run", device="cpu", progress=Listener()
    )
    left = yaml.safe_load(Path("run/recipe.yaml").read_text())
    base = str(tmp_path / "base.safetensors")
    assert (left["model"]["weights"], left["steps"][1]["load"]["weights"], left["device"]) == (base, base, "cpu")
    assert left["model"]["remap"] == [str(tmp_path / "rules.yaml")]
    finetune("run/recipe.yaml", output="again", progress=Listener())
    assert same(Path("run"), Path("again"))
