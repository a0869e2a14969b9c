"""A plugin's failure is one line, whatever it raises, and a slow one is stopped."""

from __future__ import annotations

import sys
import threading

import pytest

from zoo.isolation import PluginError, guarded, owned_process, owns_process


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
    assert guarded(lambda: 7, seconds=5) == 7


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


@pytest.mark.skipif(sys.platform == "win32", reason="there is no timer that interrupts")
def test_a_plugin_that_takes_too_long_is_stopped() -> None:
    def spin() -> None:
        while True:
            pass

    with owned_process(), pytest.raises(PluginError, match=r"took more than 0\.2 s"):
        guarded(spin, seconds=0.2)
