"""`status.json`: what a watcher polls, at every moment of a run, however it ends."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from listeners import Notes
from zoo.errors import InputError, TerminatedError, WorkError
from zoo.finetuning import status as status_module
from zoo.finetuning.status import Status, read_status, watched


@pytest.fixture
def run(tmp_path):
    recipe = SimpleNamespace(name="small", steps=[1, 2, 3])
    return SimpleNamespace(folder=tmp_path, recipe=recipe, stages=[], saved=None, listener=Notes())


@pytest.fixture
def trainer():
    history = [{"loss": 0.5, "lr": 0.1, "validation": {"loss": float("nan")}}]
    progress = SimpleNamespace(epoch=1, steps=7, history=history)
    options = SimpleNamespace(place=SimpleNamespace(index=1))
    job = SimpleNamespace(options=options, label="train 1/2")
    return SimpleNamespace(job=job, progress=progress, epochs=4, steps=28, rate=120.0)


def stands(run):
    return json.loads((run.folder / "status.json").read_text())


def test_it_says_where_a_run_is(run, trainer):
    status = Status(run)
    status.started()
    assert (stands(run)["state"], stands(run)["pid"], stands(run)["resumed"]) == ("running", os.getpid(), False)
    status.step_started(trainer)
    assert {key: stands(run)[key] for key in ("step", "steps", "epoch", "epochs", "optimizer_step")} == {
        "step": 2, "steps": 3, "epoch": 2, "epochs": 4, "optimizer_step": 7,
    }  # fmt: skip
    status.epoch_ended(trainer, trainer.progress.history[0])
    assert (stands(run)["loss"], stands(run)["validation"]) == (0.5, {"loss": None})
    assert (run.folder / "metrics.csv").read_text().splitlines()[1].startswith("2,1,0.5,")


def test_the_heart_beats_every_two_seconds_at_most(run, trainer, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(status_module.time, "monotonic", lambda: clock[0])
    status = Status(run)
    status.started()
    for later, expected in ((1.0, None), (1.5, 0.25)):
        clock[0] += later
        status.progressed(trainer, 0.25)
        assert stands(run).get("loss") == expected


@pytest.mark.parametrize(
    ("error", "state", "why"),
    [
        (None, "done", None),
        (KeyboardInterrupt(), "interrupted", "Ctrl-C"),
        (TerminatedError(), "interrupted", "SIGTERM"),
        (TerminatedError(signal.SIGUSR1), "interrupted", "SIGUSR1"),
        (WorkError("the loss is not finite", suggestion="lower lr"), "failed", "the loss is not finite (lower lr)"),
        (MemoryError(), "failed", "MemoryError"),
    ],
)
def test_it_says_how_a_run_ended(run, error, state, why):
    expected = pytest.raises(type(error)) if error is not None else contextlib.nullcontext()
    with expected, watched(Status(run)):
        assert stands(run)["state"] == "running"
        if error is not None:
            raise error
    assert (stands(run)["state"], stands(run)["why"]) == (state, why)
    assert stands(run)["ended"] is not None


@pytest.mark.parametrize(("nth", "state", "why"), [(1, "interrupted", "SIGTERM"), (2, "done", None)])
def test_a_signal_while_it_is_written_is_no_word_less(run, monkeypatch, nth, state, why):
    """The first time, as the run begins, and the last time, when it is done."""
    written, plain = [], status_module.write_json

    def signalled(*values, **options):
        written.append(values)
        if len(written) == nth:
            raise TerminatedError
        plain(*values, **options)

    monkeypatch.setattr(status_module, "write_json", signalled)
    with pytest.raises(TerminatedError), watched(Status(run)):
        pass
    assert (stands(run)["state"], stands(run)["why"]) == (state, why)


def test_a_full_disk_ends_no_run_and_is_said_once(run, trainer, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(status_module, "write_json", full)
    with watched(status := Status(run)):
        status.step_started(trainer)
    (note,) = run.listener.notes
    assert note == "warning: a watcher of this run reads old numbers: [Errno 28] No space left on device"


def test_a_status_that_is_none_is_said_to_be(tmp_path):
    assert read_status(tmp_path) is None
    for text in ("{", "[]", "{}"):
        (tmp_path / "status.json").write_text(text)
        with pytest.raises(InputError, match=r"status\.json"):
            read_status(tmp_path)


def test_of_a_killed_run_its_process_is_gone(run):
    Status(run).started()
    assert read_status(run.folder)["state"] == "running"
    path = run.folder / "status.json"
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], check=True, capture_output=True, text=True
    )
    written = json.loads(path.read_text()) | {"pid": int(gone.stdout)}
    path.write_text(json.dumps(written))
    found = read_status(run.folder)
    assert (found["state"], found["why"].partition(":")[0]) == ("killed", "its process is gone")
    path.write_text(json.dumps(written | {"host": "another"}))  # whose processes cannot be seen from here
    assert read_status(run.folder)["state"] == "running"
