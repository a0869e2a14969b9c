"""The display: a line an epoch where there is no terminal, a bar where there is one, clocks that read well."""

from __future__ import annotations

import io

import pytest
import torch

from zoo.training.callbacks import Display, Listener, Listeners, _clock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def trained(make_trainer, stream: io.StringIO) -> str:
    trainer = make_trainer(epochs=2, listener=Display(stream))
    torch.manual_seed(0)
    trainer.begin(0, {})
    trainer.run()
    return stream.getvalue()


def test_a_line_an_epoch(make_trainer):
    lines = trained(make_trainer, io.StringIO()).splitlines()
    assert len(lines) == 2
    for number, line in enumerate(lines, 1):
        assert line.startswith(f"train epoch {number}/2  loss ")
        assert all(word in line for word in ("validation loss", "accuracy", "images/s", "left"))
    assert lines[-1].endswith("0.0 s left")


def test_a_bar_on_a_terminal(make_trainer, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    text = trained(make_trainer, Terminal())
    assert "train epoch 2/2" in text
    assert "\x1b[" in text  # drawn over itself


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0 s"), (8.26, "8.3 s"), (59.99, "60.0 s"), (245, "4:05"), (3723, "1:02:03")]
)
def test_clocks(seconds, text):
    assert _clock(seconds) == text


def test_both_listeners_are_told_everything(make_trainer):
    class Scribe(Listener):
        def __init__(self):
            self.told = []

        def step_started(self, trainer):
            self.told.append("started")

        def progressed(self, trainer, loss):
            self.told.append("looked")

        def epoch_ended(self, trainer, record):
            self.told.append(record["epoch"])

        def step_ended(self, trainer):
            self.told.append("ended")

        def note(self, text):
            self.told.append(text)

    scribes = Scribe(), Scribe()
    both = Listeners(*scribes)
    trainer = make_trainer(listener=both)
    trainer.begin(0, {})
    trainer.run()
    both.note("done")
    assert scribes[0].told == scribes[1].told
    assert [item for item in scribes[0].told if item != "looked"] == ["started", 1, 2, "ended", "done"]
    assert "looked" in scribes[0].told
