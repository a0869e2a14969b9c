"""The lock on a run's folder: who holds it is named, and none is left over by a process that has ended."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys

import pytest

from zoo.errors import InputError
from zoo.file_name import RUN_HOLDER
from zoo.training import holder
from zoo.training.holder import held, lives

HOLDING = """
import os, sys, time
from pathlib import Path
from zoo.training.holder import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    if sys.argv[2] == "fork" and os.fork() == 0:
        time.sleep(1)  # as a process that loads images, which has the lock's file open
        os._exit(0)
    sys.stdin.read()
"""


@pytest.fixture
def hold(tmp_path):
    """A process that holds the folder until it is killed."""
    running = []

    def begin(how: str = "alone") -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDING, str(tmp_path), how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def test_who_holds_it_is_said(tmp_path, hold):
    process = hold()
    with pytest.raises(InputError) as refused, held(tmp_path):
        pass
    (problem,) = refused.value.problems
    said = rf"another run is at work in {re.escape(str(tmp_path))}: pid {process.pid} on {re.escape(platform.node())}, "
    assert re.fullmatch(
        rf"{said}since \d{{4}}-\d\d-\d\dT[\d:+]+ \(-c {re.escape(str(tmp_path))} alone\)", problem.message
    )
    assert problem.suggestion == "wait for it, or name another folder with --output"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_killed_holder_blocks_nobody(tmp_path, hold):
    process = hold("fork")
    process.kill()
    process.wait()
    assert json.loads((tmp_path / RUN_HOLDER).read_text())["pid"] == process.pid
    with held(tmp_path):  # behind its orphan
        assert json.loads((tmp_path / RUN_HOLDER).read_text())["pid"] == os.getpid()
    assert not (tmp_path / RUN_HOLDER).exists()


def test_a_note_that_says_nothing_is_no_hindrance(tmp_path, hold, monkeypatch):
    hold()
    monkeypatch.setattr(holder, "ORPHANS_SECONDS", 0.0)
    for text in ("{", "[]"):
        (tmp_path / RUN_HOLDER).write_text(text)
        with pytest.raises(InputError, match=rf"at work in {re.escape(str(tmp_path))} \("), held(tmp_path):
            pass


def test_what_lives():
    assert lives(os.getpid())
    assert lives(None)
    assert lives(10**30)
