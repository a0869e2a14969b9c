"""The curves in the event files: the report's numbers, one axis for all train steps, nothing of runs before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer
from zoo_tensorboard.tracker import TensorBoard

from zoo.api import TrackedRun
from zoo.errors import InputError
from zoo.finetuning.finetune import finetune
from zoo.preflight import check
from zoo.recipe import load_recipe
from zoo.testing import TrackerContract
from zoo.training.callbacks import Listener

TRAIN = {"epochs": 2, "lr": 0.01, "trackers": ["tensorboard"]}


class TestContract(TrackerContract):
    component = "tensorboard/tensorboard"


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()


def curve(folder: Path, tag: str) -> dict[int, float]:
    return {event.step: event.value for event in read(folder).Scalars(tag)}


@pytest.fixture
def run(tmp_path):
    def finetuned(*steps) -> dict:
        recipe = {"model": "tutorial/small_mlp", "data": "tutorial/rows", "steps": list(steps)}
        path = tmp_path / "rows.yaml"
        path.write_text(yaml.safe_dump(recipe))
        return finetune(path, output=tmp_path / "run", overwrite=True, progress=Listener()).report

    return finetuned


def test_scalars_are_the_numbers_of_the_report(run, tmp_path):
    report = run({"train": TRAIN}, {"train": {**TRAIN, "epochs": 3, "metrics": ["mae", "r2"]}})
    stages = [stage for stage in report["stages"] if stage["action"] == "train"]
    expected: dict[str, dict[int, float]] = {}
    for index, stage in enumerate(stages):
        for epoch in stage["epochs"]:
            step = epoch["steps"] + sum(earlier["epochs"][-1]["steps"] for earlier in stages[:index])
            values = {f"train/{name}": epoch[name] for name in ("loss", "lr", "images_per_second")}
            for tag, value in (values | {f"validation/{k}": v for k, v in epoch["validation"].items()}).items():
                expected.setdefault(tag, {})[step] = value
    folder = tmp_path / "run" / "tensorboard"
    assert len(expected["train/loss"]) == 5
    assert set(read(folder).Tags()["scalars"]) == {*expected, "train/running_loss"}
    for tag, values in expected.items():
        assert curve(folder, tag) == pytest.approx(values, rel=1e-6), tag


def test_the_loss_of_an_epoch_so_far_ends_as_the_loss_of_the_epoch(run, tmp_path):
    run({"train": TRAIN})
    folder = tmp_path / "run" / "tensorboard"
    running = curve(folder, "train/running_loss")
    assert {step: running[step] for step in curve(folder, "train/loss")} == curve(folder, "train/loss")


def test_without_the_option_nothing_is_written(run, tmp_path):
    run({"train": {**TRAIN, "trackers": []}})
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_a_run_anew_does_not_keep_the_curves_of_the_one_before(run, tmp_path):
    folder = tmp_path / "run" / "tensorboard"
    run({"train": {**TRAIN, "epochs": 3}})
    longer = curve(folder, "train/loss")
    (folder / "own.txt").write_text("not zoo's")
    run({"train": TRAIN})
    assert len(curve(folder, "train/loss")) == len(longer) - 1
    assert (folder / "own.txt").exists()


def test_a_resumed_step_takes_back_what_came_after_its_state(tmp_path, monkeypatch):
    # files of one second are read in the order of this number as text: 10 would come before 9
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    for run, steps in ((told(tmp_path), (1, 2, 3)), (told(tmp_path, step=1, resumed=True), (2,))):
        tracker = TensorBoard()
        tracker.start(run)
        for step in steps:
            tracker.log({"train/loss": step + run.step}, step)
        tracker.finish()
    assert curve(tmp_path / "tensorboard", "train/loss") == {1: 1.0, 2: 3.0}


def told(folder: Path, **more) -> TrackedRun:
    return TrackedRun("run", "abc", folder, {}, **more)


def test_a_file_in_the_way_is_not_overwritten(run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").write_text("a file in the way")
    with pytest.raises(InputError, match=r"contains tensorboard, which no run of zoo wrote"):
        run({"train": TRAIN})


@pytest.mark.parametrize("step", ["train: {epochs: 1, trackers: [tensorboard]}", "look: '0'"])
def test_a_missing_package_is_found_before_training(step, tmp_path, monkeypatch):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: tutorial/small_mlp\ndata: tutorial/rows\nsteps:\n  - {step}\n")
    recipe = load_recipe(path)
    assert check(recipe).ok
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # what importing it without the package does
    (problem,) = check(recipe).errors
    assert problem.suggestion == 'pip install "zoo-kit[tensorboard]"'
    assert problem.location.line == 4
    with pytest.raises(InputError, match="tensorboard"):
        finetune(recipe, output=tmp_path / "run", overwrite=True, progress=Listener())


@pytest.mark.slow
def test_nothing_needs_tensorboard_at_import():
    code = "import sys, zoo_tensorboard.tracker, zoo.finetuning.finetune; assert 'tensorboard' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
