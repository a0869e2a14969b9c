"""The curves in the event files: the report's numbers, one axis for all train steps, nothing of runs before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from zoo.errors import InputError, WorkError
from zoo.finetuning.finetune import finetune
from zoo.preflight import check
from zoo.recipe import load_recipe
from zoo.training import tensorboard
from zoo.training.callbacks import Listener, Listeners
from zoo.training.folder import RunFolder
from zoo.training.tensorboard import Curves, steps_done

TRAIN = {"epochs": 2, "lr": 0.01, "tensorboard": True}


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
            step = epoch["steps"] + steps_done(stages[:index])
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
    run({"train": {**TRAIN, "tensorboard": False}})
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_a_run_anew_does_not_keep_the_curves_of_the_one_before(run, tmp_path):
    folder = tmp_path / "run" / "tensorboard"
    run({"train": {**TRAIN, "epochs": 3}})
    longer = curve(folder, "train/loss")
    (folder / "own.txt").write_text("not zoo's")
    run({"train": TRAIN})
    assert len(curve(folder, "train/loss")) == len(longer) - 1
    assert (folder / "own.txt").exists()


def test_a_resumed_step_takes_back_what_came_after_its_state(make_trainer, tmp_path):
    log = tmp_path / "log"
    interrupted = make_trainer(listener=Curves(log), epochs=3)
    interrupted.begin(0, {})
    interrupted.run()
    saved = list(curve(log, "train/loss"))
    resumed = make_trainer(listener=Curves(log, resumed=True), epochs=3)
    resumed.progress.steps = saved[0]  # as if only the first epoch's state had been kept
    resumed.listener.step_started(resumed)
    resumed.listener.step_ended(resumed)
    assert list(curve(log, "train/loss")) == saved[:1]


def test_both_listeners_are_told_everything(make_trainer):
    class Scribe(Listener):
        def __init__(self):
            self.told = []

        def step_started(self, trainer):
            self.told.append("started")

        def progressed(self, trainer, loss):
            self.told.append("looked")

        def epoch_ended(self, trainer, record):
            self.told.append(record["epoch"])

        def step_ended(self, trainer):
            self.told.append("ended")

        def note(self, text):
            self.told.append(text)

    scribes = Scribe(), Scribe()
    both = Listeners(*scribes)
    trainer = make_trainer(listener=both)
    trainer.begin(0, {})
    trainer.run()
    both.note("done")
    assert scribes[0].told == scribes[1].told
    assert [item for item in scribes[0].told if item != "looked"] == ["started", 1, 2, "ended", "done"]
    assert "looked" in scribes[0].told


def test_what_cannot_be_written_is_said(run, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").write_text("a file in the way")
    with pytest.raises(InputError, match=r"contains tensorboard, which no run of zoo wrote"):
        run({"train": TRAIN})
    monkeypatch.setattr(RunFolder, "check", lambda *arguments, **keywords: None)  # as if it came in between
    monkeypatch.setattr(RunFolder, "take", lambda *arguments, **keywords: None)
    with pytest.raises(WorkError, match=r"cannot write into .*tensorboard"):
        run({"train": TRAIN})


@pytest.mark.parametrize("step", ["train: {epochs: 1, tensorboard: true}", "look: '0'"])
def test_a_missing_package_is_found_before_training(step, tmp_path, monkeypatch):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: tutorial/small_mlp\ndata: tutorial/rows\nsteps:\n  - {step}\n")
    recipe = load_recipe(path)
    assert check(recipe).ok
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # what importing it without the package does
    (problem,) = check(recipe).errors
    assert problem.suggestion == "pip install tensorboard"
    assert problem.location.line == 4
    with pytest.raises(InputError, match="tensorboard"):
        finetune(recipe, output=tmp_path / "run", overwrite=True, progress=Listener())


@pytest.mark.slow
def test_nothing_needs_tensorboard_at_import():
    code = f"import sys, {tensorboard.__name__}, zoo.finetuning.finetune; assert 'tensorboard' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
