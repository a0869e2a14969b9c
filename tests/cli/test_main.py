"""The frame of all commands: help, exit codes, and failures told in words."""

import os
import subprocess
import sys
import types

import pytest

from zoo import cli
from zoo.cli import COMMANDS, long_options
from zoo.errors import InputError, Location, Problem, WorkError


@pytest.fixture
def command(monkeypatch):
    """Puts a function in the place of `zoo doctor`."""

    def put(function):
        module = types.ModuleType("zoo.cli.doctor")
        module.command = function
        monkeypatch.setitem(sys.modules, "zoo.cli.doctor", module)

    return put


def raising(error):
    def command():
        """Fail."""
        raise error

    return command


class TestFrame:
    @pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
    def test_the_overview_names_every_command(self, zoo, arguments):
        outcome = zoo(*arguments)
        assert outcome.code == 0
        assert all(f"\n  {name}" in outcome.out for name in COMMANDS)

    def test_the_version(self, zoo):
        from importlib.metadata import version

        assert zoo("--version").out == f"zoo {version('zoo-kit')}\n"

    def test_a_misspelt_command(self, zoo):
        outcome = zoo("finetun", "recipe.yaml")
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err == "error: zoo has no command 'finetun' (did you mean finetune?)\n"

    def test_an_option_in_front(self, zoo):
        assert zoo("--jsn").err == "error: zoo has no option '--jsn' (see: zoo --help)\n"

    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_help_shows_examples(self, zoo, name):
        outcome = zoo(name, "--help")
        assert outcome.code == 0
        assert outcome.out.lower().startswith(f"usage: zoo {name}")
        examples = outcome.out.partition("Examples:\n")[2]
        assert f"\n      zoo {name}" in examples or f"\n    zoo {name}" in examples

    @pytest.mark.parametrize("name", COMMANDS)
    def test_an_unknown_option_is_the_users_mistake(self, zoo, name):
        outcome = zoo(name, "--no-such-option")
        assert (outcome.code, outcome.out) == (2, "")
        assert "no-such-option" in outcome.err
        assert "Traceback" not in outcome.err

    def test_every_module_of_a_command_is_listed(self):
        from pathlib import Path

        helpers = {"__init__", "errors", "health", "overview"}
        files = {path.stem for path in Path(cli.__file__).parent.glob("*.py")}
        assert set(COMMANDS) <= files
        commands = {
            name for name in files - helpers if "def command(" in (Path(cli.__file__).parent / f"{name}.py").read_text()
        }
        assert commands | {"list"} == set(COMMANDS)


class TestFailures:
    def test_wrong_input_is_2_with_every_problem_at_its_place(self, zoo, command):
        problems = [
            Problem("no such step", Location("r.yaml", 3, 5), "did you mean train?"),
            Problem("nothing to do"),
        ]
        command(raising(InputError(problems)))
        outcome = zoo("doctor")
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err == "r.yaml:3:5: no such step (did you mean train?)\nerror: nothing to do\n"

    def test_failed_work_is_1(self, zoo, command):
        command(raising(WorkError("coverage is 0.3")))
        outcome = zoo("doctor")
        assert (outcome.code, outcome.err) == (1, "error: coverage is 0.3\n")

    def test_an_interrupt_is_130(self, zoo, command):
        command(raising(KeyboardInterrupt()))
        outcome = zoo("doctor")
        assert (outcome.code, outcome.err) == (130, "interrupted\n")

    def test_a_bug_is_told_as_one_without_a_traceback(self, zoo, command, monkeypatch):
        monkeypatch.delenv("ZOO_TRACEBACK", raising=False)
        command(raising(KeyError("x")))
        outcome = zoo("doctor")
        assert (outcome.code, outcome.out) == (1, "")
        assert "this is a bug in zoo: KeyError: 'x'" in outcome.err
        assert "test_main.py:" in outcome.err
        assert "ZOO_TRACEBACK=1" in outcome.err
        assert "Traceback" not in outcome.err

    def test_the_traceback_of_a_bug_can_be_had(self, zoo, command, monkeypatch):
        command(raising(KeyError("x")))
        for asked in ("--traceback", "ZOO_TRACEBACK"):
            if asked == "ZOO_TRACEBACK":
                monkeypatch.setenv(asked, "1")
            outcome = zoo("doctor", *([asked] if asked.startswith("--") else []))
            assert outcome.code == 1
            assert outcome.err.startswith("Traceback (most recent call last):\n")
            assert "\nKeyError: 'x'\nerror: this is a bug in zoo: KeyError: 'x' (" in outcome.err

    def test_every_command_takes_the_option(self, zoo):
        for name in COMMANDS:
            assert "--traceback" in zoo(name, "--help").out
            assert "--traceback" in long_options(name)
        assert "ZOO_TRACEBACK" not in os.environ

    def test_the_operating_systems_refusals_are_no_bugs(self, zoo, command):
        command(raising(PermissionError(13, "Permission denied", "/root/x")))
        assert zoo("doctor").err == "error: Permission denied: /root/x\n"

    def test_memory_running_out_comes_with_advice(self, zoo, command):
        command(raising(MemoryError()))
        assert "batch_size" in zoo("doctor").err

    @pytest.mark.parametrize(("given", "code"), [(None, 0), (0, 0), (1, 1), (2, 2), ("words", 1)])
    def test_exit_codes_pass_through(self, zoo, command, given, code):
        command(raising(SystemExit(given)))
        assert zoo("doctor").code == code


ENDING = """
import atexit, sys, threading, time
from zoo import cli

def work(arguments):
    atexit.register(print, "exit function")
    threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
    print("caf\u00e9")
    return 3

atexit.register(print, "earlier exit function")
cli.run = work
{watched}
cli.main()
"""


class TestProcess:
    """What only a process of its own can show."""

    @staticmethod
    def start(*arguments, **options):
        return subprocess.Popen([sys.executable, "-m", "zoo", *arguments], stderr=subprocess.PIPE, **options)

    def test_a_reader_that_leaves_is_no_failure(self):
        reader, writer = os.pipe()
        process = self.start("list", stdout=writer)
        os.close(writer)
        os.close(reader)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, b"")

    @pytest.mark.parametrize("watched", [False, True])
    def test_the_end_waits_for_threads_and_exit_functions(self, watched):
        code = ENDING.format(watched="sys.settrace(lambda *_: None)" if watched else "")
        environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (3, "")
        lines = done.stdout.splitlines()
        assert lines[:3] == ["caf?", "thread", "exit function"]
        assert not watched or lines[3:] == ["earlier exit function"]  # a debugger's, coverage's

    def test_only_the_shells_command_ends_so(self):
        code = "from zoo import cli; code = cli.run(['--version']); print(code); raise SystemExit(code)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[1] == "0"

    def test_a_full_disk_is_told(self):
        if not os.path.exists("/dev/full"):
            pytest.skip("no /dev/full here")
        with open("/dev/full", "w") as full:
            process = self.start("list", stdout=full)
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
        assert b"error: No space left on device" in errors
        assert b"Traceback" not in errors
