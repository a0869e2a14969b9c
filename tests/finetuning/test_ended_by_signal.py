"""A run that a signal ends, and the one that goes on from it: nothing is lost, in one process and in two."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from launching import torchrun
from safetensors.torch import load_file

from listeners import Notes
from zoo.errors import TerminatedError
from zoo.finetuning.finetune import finetune
from zoo.training.callbacks import Listener
from zoo.training.trainer import Trainer

RECIPE = {
    "seed": 3,
    "precision": "float32",
    "model": "tutorial/net_a",
    "data": {"source": "sklearn/digits", "image_size": 32, "batch_size": 8, "limit": 24, "workers": 0},
    "steps": [{"train": {"epochs": 3, "lr": 0.01, "ema": 0.9}}],
}


def written(folder: Path, **train) -> str:
    steps = [{"train": {**RECIPE["steps"][0]["train"], **train}}]
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**RECIPE, "steps": steps}))
    return str(folder / "recipe.yaml")


def same(first: Path, second: Path) -> bool:
    mine, theirs = (load_file(folder / "model.safetensors") for folder in (first, second))
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def rows(folder: Path) -> list[dict]:
    varying = {"images_per_second", "seconds", "peak_memory"}
    (stage,) = json.loads((folder / "report.json").read_text())["stages"]
    return [{key: value for key, value in row.items() if key not in varying} for row in stage["epochs"]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    return finetune(written(folder), output=folder / "run", progress=Listener()).folder


PHASES = {  # the method behind which the signal comes, in which epoch, and the epoch and batch that are reached then
    "step": ("backward", 1, (1, 2)),
    "measuring": ("_measure", 1, (1, 3)),
    "end of an epoch": ("_keep_best", 1, (2, 0)),
    "the last measuring": ("_measure", 2, (2, 3)),  # no step is left, but the epoch has not been ended
}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=["SIGTERM", "SIGUSR1"])
@pytest.mark.parametrize("where", PHASES)
def test_it_saves_and_ends_and_goes_on_to_the_same_bits(command, whole, tmp_path, monkeypatch, number, where):
    name, epoch, place = PHASES[where]
    plain = getattr(Trainer, name)

    def sending(trainer, *values, **options):
        found = plain(trainer, *values, **options)
        if trainer.progress.epoch == epoch and trainer.progress.batch != 0:
            os.kill(os.getpid(), number)
        return found

    notes = Notes()
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, name, sending)
        with pytest.raises(TerminatedError) as ended:
            finetune(written(tmp_path), output=tmp_path / "run", progress=notes)
    assert ended.value.exit_code == 128 + number
    status = json.loads((tmp_path / "run/status.json").read_text())
    assert (status["state"], status["why"]) == ("interrupted", signal.Signals(number).name)
    assert any(note.startswith("interrupted: ") for note in notes.notes)
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert (report["interrupted"], report["evaluation"]) == (True, None)  # there may be no time to measure
    reached = json.loads((tmp_path / "run/state/state.json").read_text())["latest"]["training"]["progress"]
    assert (reached["epoch"], reached["batch"]) == place
    finetune(written(tmp_path), output=tmp_path / "run", resume=True, progress=Listener())
    assert same(tmp_path / "run", whole)
    assert rows(tmp_path / "run") == rows(whole)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "whom"), [(signal.SIGUSR1, "1"), (signal.SIGTERM, "launcher")])
def test_two_processes_end_behind_the_same_step(tmp_path, request, number, whom):
    recipe, run = written(tmp_path, epochs=4000, ema=None), tmp_path / "run"
    command = [*torchrun(), "-m", "zoo", "finetune"]
    with open(tmp_path / "log", "w") as stream:
        launcher = subprocess.Popen(
            [sys.executable, *command, recipe, "--output", str(run), "--device", "cpu"],
            stderr=stream, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    request.addfinalizer(launcher.terminate)
    limit = time.monotonic() + 300
    while "epoch 2/" not in (log := (tmp_path / "log").read_text()):
        assert time.monotonic() < limit, log
        assert launcher.poll() is None, log
        time.sleep(0.1)
    os.kill(launcher.pid if whom == "launcher" else rank(launcher.pid, whom), number)
    launcher.wait(60)
    log = (tmp_path / "log").read_text()
    assert log.count("interrupted: ") == 1, log
    status = json.loads((run / "status.json").read_text())
    assert (status["state"], status["why"]) == ("interrupted", signal.Signals(number).name)
    state = json.loads((run / "state/state.json").read_text())
    assert len(state["latest"]["training"]["processes"]) == 2
    assert state["latest"]["training"]["progress"]["steps"] > state["epoch_end"]["training"]["progress"]["steps"] - 1


def rank(launcher: int, wanted: str) -> int:
    """The pid of the process of a rank, among a launcher's children."""
    children = subprocess.run(["pgrep", "-P", str(launcher)], capture_output=True, text=True, check=True).stdout.split()
    return next(
        int(pid) for pid in children if f"\0RANK={wanted}\0" in Path(f"/proc/{pid}/environ").read_text(errors="replace")
    )
