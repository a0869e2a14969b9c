"""Signals: at once where nothing can be lost, else behind the optimizer step, with a state to go on from."""

from __future__ import annotations

import os
import signal

import pytest

from zoo.errors import TerminatedError
from zoo.isolation import guarded, owned_process
from zoo.training import signals
from zoo.training.signals import ENDING, NUMBERS, terminable


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_command_ends_at_once_and_a_library_leaves_signals_alone(number):
    before = signal.getsignal(number)
    with terminable():
        assert signal.getsignal(number) is before
    with owned_process(), pytest.raises(TerminatedError) as stop, terminable():
        send(number)
    assert stop.value.exit_code == 128 + number
    assert signal.getsignal(number) is before


def test_in_the_loop_it_waits_and_another_one_later_does_not(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: clock[0])
    with owned_process(), terminable(), ENDING.waiting():
        assert ENDING.due() is None
        send(signal.SIGUSR1)
        send(signal.SIGUSR1)  # a scheduler's may come twice
        assert ENDING.due() == signal.SIGUSR1
        with pytest.raises(TerminatedError):
            ENDING.check()
        clock[0] += signals.AGAIN_SECONDS + 1
        with pytest.raises(TerminatedError, match="SIGTERM"):
            send(signal.SIGTERM)
    with owned_process(), terminable():
        assert ENDING.due() is None  # the next run of this process begins anew


def test_while_an_epoch_is_measured_it_does_not_wait():
    with owned_process(), terminable(), ENDING.waiting():
        with pytest.raises(TerminatedError), ENDING.between():
            send(signal.SIGTERM)
        assert ENDING.waits


def test_in_a_plugins_code_it_is_no_failure_of_the_plugin():
    with owned_process(), terminable(), pytest.raises(TerminatedError):
        guarded(lambda: send(signal.SIGTERM))
