"""Trackers: one axis for all train steps, failures said once; those of Accelerate's libraries, offline."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from listeners import Notes
from zoo.contracts import TrackedRun, Tracker
from zoo.errors import InputError
from zoo.finetuning.finetune import finetune
from zoo.preflight import check
from zoo.recipe import load_recipe
from zoo.registry import Component
from zoo.training.callbacks import Listener
from zoo.training.trackers import Tracking, flat, make_trackers, run_id

ROW = Component("acme/t", "trackers", "acme", "zoo-acme", "1.0", "acme:T")


class Scribe(Tracker):
    def __init__(self, fails=()):
        self.told, self.fails = [], fails

    def _tell(self, *what):
        if what[0] in self.fails:
            raise OSError("no net")
        self.told.append(what)

    def start(self, run):
        self._tell("start", run.step, run.resumed)

    def log(self, values, step):
        self._tell("log", sorted(values), step)

    def finish(self):
        self._tell("finish")


def tracked(make_trainer, tmp_path, *trackers, step=0):
    notes = Notes()
    run = TrackedRun("run", "abc", tmp_path, {}, step)
    trainer = make_trainer(epochs=2, batch_size=60, listener=Tracking([(ROW, t) for t in trackers], run, notes))
    trainer.begin(0, {})
    trainer.run()
    return trainer, notes.notes


def test_steps_count_from_the_beginning_of_the_run(make_trainer, tmp_path):
    scribe = Scribe()
    trainer, notes = tracked(make_trainer, tmp_path, scribe, step=100)
    epochs = [told for told in scribe.told if told[0] == "log" and "train/loss" in told[1]]
    assert [step for _, _, step in epochs] == [100 + row["steps"] for row in trainer.progress.history]
    names = ["train/images_per_second", "train/loss", "train/lr", "validation/accuracy", "validation/loss"]
    assert epochs[0][1] == names
    assert scribe.told[0] == ("start", 100, False)
    assert scribe.told[-1] == ("finish",)
    assert notes == []


@pytest.mark.parametrize("method", ["start", "log", "finish"])
def test_a_failure_is_said_once_and_the_others_go_on(make_trainer, tmp_path, method):
    broken, sound = Scribe((method,)), Scribe()
    trainer, notes = tracked(make_trainer, tmp_path, broken, sound)
    (note,) = notes
    assert note.startswith(f"warning: acme/t (zoo-acme 1.0) failed in {method}: OSError: no net")
    assert trainer.progress.epoch == 2
    assert sound.told[-1] == ("finish",)
    assert (("finish",) in broken.told) == (method == "log"), "what was begun is ended"


@pytest.mark.parametrize("name", ["wandb", "mlflow", "aim"])
def test_a_missing_package_is_found_before_training(name, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked, *rest: None if asked == name else find(asked, *rest))
    with pytest.raises(InputError, match=f"the package {name} is missing") as caught:
        make_trackers([name])
    assert caught.value.problems[0].suggestion == f'pip install "zoo-kit[{name}]"'
    path = tmp_path / "recipe.yaml"
    step = f"train: {{epochs: 1, trackers: [{name}]}}"
    path.write_text(f"model: tutorial/small_mlp\ndata: tutorial/rows\nsteps:\n  - {step}\n")
    (problem,) = check(load_recipe(path)).errors
    assert (problem.location.line, problem.suggestion) == (4, f'pip install "zoo-kit[{name}]"')


def test_what_a_plugin_of_zoos_would_bring_is_said(monkeypatch):
    from zoo.recipe.catalogue import missing_plugin

    assert missing_plugin("trackers", "tensorboard") == 'pip install "zoo-kit[tensorboard]"'
    assert missing_plugin("steps", "look") == 'pip install "zoo-kit[tensorboard]"'
    assert missing_plugin("losses", "focal") is None


def test_a_runs_id_is_that_of_its_folder(tmp_path):
    assert run_id(tmp_path / "a") == run_id(tmp_path / "b" / ".." / "a") != run_id(tmp_path / "b")
    assert run_id(tmp_path).isalnum()


def test_a_recipe_goes_by_dotted_keys():
    recipe = {"seed": 0, "steps": [{"train": {"lr": 0.1, "scheduler": None}}]}
    assert flat(recipe) == {"seed": 0, "steps.0.train.lr": 0.1}


def two_steps(tmp_path: Path, tracker) -> Path:
    train = {"epochs": 2, "lr": 0.01, "trackers": [tracker], "precision": "float32"}
    recipe = {"model": "tutorial/small_mlp", "data": "tutorial/rows", "steps": [{"train": train}, {"train": train}]}
    (tmp_path / "rows.yaml").write_text(yaml.safe_dump(recipe))
    return tmp_path / "rows.yaml"


def losses(report) -> list[float]:
    return [row["loss"] for stage in report["stages"] for row in stage["epochs"]]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of mlflow's own
def test_mlflow_has_one_run_with_the_reports_numbers(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # set by the tracker itself, which then stays set
    report = finetune(two_steps(tmp_path, "mlflow"), output=tmp_path / "run", progress=Listener()).report
    client = mlflow.MlflowClient((tmp_path / "run/mlflow").as_uri())
    (experiment,) = [e for e in client.search_experiments() if e.name == "zoo"]
    (run,) = client.search_runs([experiment.experiment_id])
    history = sorted(client.get_metric_history(run.info.run_id, "train/loss"), key=lambda point: point.step)
    assert [point.value for point in history] == losses(report)
    assert run.data.params["steps.0.train.lr"] == "0.01"
    assert not mlflow.is_tracking_uri_set(), "as before"


@pytest.mark.slow
def test_weights_and_biases_offline(tmp_path):
    pytest.importorskip("wandb")
    path = two_steps(tmp_path, {"wandb": {"mode": "offline"}})
    code = f"import zoo; zoo.finetune({str(path)!r}, output={str(tmp_path / 'run')!r})"  # it leaves threads behind
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "failed in" not in done.stderr
    report = json.loads((tmp_path / "run/report.json").read_text())
    written = b"".join(file.read_bytes() for file in (tmp_path / "run/wandb").glob("offline-run-*/*.wandb"))
    assert all(str(loss).encode() in written for loss in losses(report))
    assert b"validation/mae" in written
