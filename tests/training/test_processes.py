"""The processes of a run watch each other: a killed or stopped one is named, with what to type."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest
import yaml
from launching import torchrun

from zoo.errors import InputError
from zoo.training.processes import processes_watched, silence_allowed


@pytest.mark.parametrize(("text", "seconds"), [("", 60.0), ("90", 90.0), ("2.5", 2.5)])
def test_how_long_a_process_may_be_silent(monkeypatch, text, seconds):
    monkeypatch.setenv("ZOO_PROCESS_TIMEOUT", text)
    assert silence_allowed() == seconds


@pytest.mark.parametrize("text", ["soon", "0", "-3", "nan", "0.1"])
def test_what_is_no_such_number(monkeypatch, text):
    monkeypatch.setenv("ZOO_PROCESS_TIMEOUT", text)
    with pytest.raises(InputError, match=r"ZOO_PROCESS_TIMEOUT is .*write a number of seconds"):
        silence_allowed()


def test_one_process_watches_nobody(monkeypatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    before = signal.getsignal(signal.SIGTERM)
    with processes_watched("r.yaml"):
        assert signal.getsignal(signal.SIGTERM) is before


RECIPE = {
    "name": "two",
    "model": "timm/test_resnet",
    "precision": "float32",
    "data": {"source": "sklearn/digits", "image_size": 32, "batch_size": 16, "limit": 200},
    "steps": [{"swap_head": "auto"}, {"train": {"epochs": 5000}}],
}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_process_is_named_with_what_to_type(tmp_path, request, number):
    recipe, log = tmp_path / "recipe.yaml", tmp_path / "log"
    recipe.write_text(yaml.safe_dump(RECIPE))
    command = [*torchrun(), "-m", "zoo", "finetune"]
    with open(log, "w") as stream:
        launcher = subprocess.Popen(
            [sys.executable, *command, str(recipe), "--output", str(tmp_path / "run"), "--device", "cpu"],
            stderr=stream, env={**os.environ, "OMP_NUM_THREADS": "1", "ZOO_PROCESS_TIMEOUT": "3"},
        )  # fmt: skip
    request.addfinalizer(launcher.terminate)

    def until(mark: str) -> str:
        limit = time.monotonic() + 300
        while not re.search(mark, text := log.read_text()):
            assert time.monotonic() < limit, text
            assert launcher.poll() is None or re.search(mark, log.read_text()), text
            time.sleep(0.1)
        return log.read_text()

    until("epoch 1/5000")
    children = subprocess.run(
        ["pgrep", "-P", str(launcher.pid)], capture_output=True, text=True, check=False
    ).stdout.split()
    lost = next(int(pid) for pid in children if _rank(pid) == "1")
    os.kill(lost, number)
    told = until("error: ")
    if number == signal.SIGSTOP:
        os.kill(lost, signal.SIGKILL)  # torchrun would wait 30 s for it
    assert launcher.wait(60) == 1
    what = "was killed" if number == signal.SIGKILL else "for 3 s: stopped, or its machine hangs"
    (line,) = [line for line in told.splitlines() if line.startswith("error: ")]
    assert f"process 2 of 2 (rank 1, pid {lost} on " in line
    assert what in line
    assert line.endswith(f"(torchrun --nproc-per-node 2 -m zoo finetune {recipe} --output {tmp_path / 'run'} --resume)")


def _rank(pid: str) -> str:
    with open(f"/proc/{pid}/environ") as file:
        found = re.search("\0RANK=(\\d+)", file.read())
    return found[1] if found else ""
