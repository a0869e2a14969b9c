"""Ctrl-C while a command imports, before it works, and while it works with something to undo."""

import os
import signal
import subprocess
import sys
import time

import pytest

from zoo.cli import interrupts
from zoo.isolation import anything_to_undo, to_undo

SLOW_IMPORT = "import time\nopen('here', 'w')\nend = time.monotonic() + 1.5\nwhile time.monotonic() < end: pass\n"


def interrupted(tmp_path, program):
    """(code, standard error, what the program has printed) of a program that is interrupted once it has made `here`."""
    (tmp_path / "slow_import.py").write_text(SLOW_IMPORT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (tmp_path / "here").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=30)
    return process.returncode, error, out


BEGIN = "from zoo.cli import interrupts\nfrom zoo.cli.errors import exit_code\nfrom zoo.isolation import to_undo\n"
WORK = """
def work():
    with to_undo():
        try:
            import slow_import
            print("imported")
            while True: pass
        finally:
            print("undone")
import sys
with interrupts.raised_between_imports():
    sys.exit(exit_code(work))
"""


def test_before_the_work_a_command_ends_at_once(tmp_path):
    program = f"{BEGIN}interrupts.end_at_once()\nimport slow_import\nprint('imported')"
    assert interrupted(tmp_path, program) == (130, "interrupted\n", "")


def test_an_import_with_nothing_to_undo_is_ended(tmp_path):
    program = BEGIN + WORK.replace("with to_undo()", "if True")
    assert interrupted(tmp_path, program) == (130, "interrupted\n", "")


def test_an_import_is_not_cut_short_where_something_is_to_be_undone(tmp_path):
    assert interrupted(tmp_path, BEGIN + WORK) == (130, "interrupted\n", "imported\nundone\n")


def test_work_without_imports_raises():
    with interrupts.raised_between_imports(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_is_to_be_undone_is_counted_to_the_end_of_its_block():
    assert not anything_to_undo()
    with to_undo(), to_undo():
        assert anything_to_undo()
    assert not anything_to_undo()
