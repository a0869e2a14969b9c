"""A plugin's failure is one line, whatever it raises, with the place in its file."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import InputError, ZooError
from zoo.isolation import PluginError, cause_of, guarded, note, noted, owned_process, owns_process, warn


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ImportError("no module named x"), "ImportError: no module named x"),
        (ValueError("first\nsecond"), "ValueError: first"),
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_whatever_is_raised_is_the_plugins(error: BaseException, cause: str) -> None:
    def work() -> None:
        raise error

    with pytest.raises(PluginError, match=cause):
        guarded(work)


def test_the_result_comes_back() -> None:
    assert guarded(lambda: 7) == 7


def test_the_cause_has_the_plugins_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "acme_where.py"
    file.write_text("import json\n\ndef work():\n    json.loads('{')\n")
    scope: dict[str, Any] = {"__name__": "acme_where.inner"}
    exec(compile(file.read_text(), str(file), "exec"), scope)
    with pytest.raises(PluginError, match=rf"^JSONDecodeError: .* \({re.escape(str(file))}:4\)$"):
        guarded(scope["work"], package="acme_where")
    with pytest.raises(PluginError, match=r"decoder\.py:\d+\)$"):  # whose code it is was not said: the deepest line
        guarded(scope["work"])


def test_an_error_without_a_text_is_its_type() -> None:
    class OddError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert cause_of(OddError()) == "OddError"
    assert cause_of(SyntaxError("bad", ("m.py", 7, 1, "x"))) == "SyntaxError: bad (m.py:7)"


def test_zoos_own_errors_pass_where_that_is_wanted() -> None:
    def work() -> None:
        raise InputError("no such file")

    with pytest.raises(InputError):
        guarded(work, passing=(ZooError,))
    with pytest.raises(PluginError, match="InputError: no such file"):
        guarded(work)


def test_failures_are_kept_where_tracebacks_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZOO_TRACEBACK", raising=False)
    note("one")
    assert noted() == []
    monkeypatch.setenv("ZOO_TRACEBACK", "1")
    note("two")
    note("two")
    assert noted() == ["two"]
    assert noted() == []


def test_a_warning_is_a_line_in_a_command_and_pythons_in_a_library_call(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(UserWarning, match="^look out$"):
        warn("look out")
    with owned_process():
        warn("look out")
    assert capsys.readouterr().err == "warning: look out\n"


def test_the_process_is_zoos_for_the_time_of_a_command_and_in_no_other_thread() -> None:
    seen: list[bool] = []
    assert not owns_process()
    with owned_process():
        assert owns_process()
        thread = threading.Thread(target=lambda: seen.append(owns_process()))
        thread.start()
        thread.join()
    assert not owns_process()
    assert seen == [False]
