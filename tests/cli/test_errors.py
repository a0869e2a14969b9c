"""What a command ends with: the exit code, and words for it on standard error."""

import pytest

from zoo.cli.errors import exit_code
from zoo.errors import InputError, Location, Problem, WorkError


def failing(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("no", suggestion="yes"), 2, "error: no (yes)\n"),
        (WorkError("it broke"), 1, "error: it broke\n"),
        (InputError([Problem("one", Location("r.yaml", 3, 4)), Problem("two")]), 2, "r.yaml:3:4: one\nerror: two\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (FileNotFoundError(2, "No such file or directory", "a.txt"), 1, "error: No such file or directory: a.txt\n"),
        (MemoryError(), 1, "error: out of memory (a smaller batch_size or image_size needs less)\n"),
        (SystemExit(3), 3, ""),
        (SystemExit(), 0, ""),
        (SystemExit("a word"), 1, "a word\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_each_end_has_its_code_and_words(capsys, error, code, said):
    assert exit_code(failing(error)) == code
    assert capsys.readouterr().err == said


def test_what_nobody_expected_is_called_a_bug_with_its_place(capsys, monkeypatch):
    monkeypatch.delenv("ZOO_TRACEBACK", raising=False)
    assert exit_code(lambda: {}["x"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: this is a bug in zoo: KeyError: 'x' (")
    assert __file__ in said
    monkeypatch.setenv("ZOO_TRACEBACK", "1")
    assert exit_code(lambda: {}["x"]) == 1
    assert capsys.readouterr().err.startswith("Traceback (most recent call last):\n")


def test_work_that_ends_well_is_0():
    assert exit_code(lambda: None) == 0


def test_a_closed_terminal_does_not_change_the_exit_code(monkeypatch):
    class Closed:
        def write(self, text):
            raise OSError(5, "Input/output error")

        def flush(self):
            pass

    monkeypatch.setattr("sys.stderr", Closed())

    def wrong():
        raise InputError("no such recipe")

    assert exit_code(wrong) == 2
