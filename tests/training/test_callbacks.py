"""The display: a line an epoch where there is no terminal, a bar where there is one, clocks that read well."""

from __future__ import annotations

import io

import pytest
import torch

from zoo.training.callbacks import Display, Listener, Listeners, Quiet, clocked


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


def test_quiet_prints_warnings_and_what_is_kept(make_trainer):
    stream = io.StringIO()
    quiet = Quiet(stream)
    trainer = make_trainer(listener=quiet, values={"precision": "bfloat16"})
    trainer.begin(0, {})
    trainer.run()
    for text in ("precision: float32", "warning: slow", "interrupted: a is b", "failed: a is b"):
        quiet.note(text)
    assert stream.getvalue() == "warning: slow\ninterrupted: a is b\nfailed: a is b\n"


def test_what_a_terminal_would_obey_is_spelled_out():
    stream = io.StringIO()
    Display(stream).note("a\x1b[2Jb\nc")
    assert stream.getvalue() == "a\\x1b[2Jb\nc\n"


class Broken(io.StringIO):
    """Raises `error` as often as something is written."""

    def __init__(self, error):
        super().__init__()
        self.error, self.tries = error, 0

    def write(self, text):
        self.tries += 1
        raise self.error


def test_a_stream_that_goes_away_ends_nothing():
    gone, busy, closed = Broken(OSError(5, "gone")), Broken(BlockingIOError(11, "busy")), io.StringIO()
    closed.close()
    for stream in (gone, busy, closed):
        for text in ("one", "two"):
            Display(stream).stream.isatty()
            (display := Display(stream)).note(text)
            display.note(text)
    assert (gone.tries, busy.tries) == (2, 4)  # a busy terminal is asked again


def test_letters_that_a_stream_lacks_are_replaced():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Display(stream).note("3 × 4")
    assert raw.getvalue() == b"3 ? 4\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0 s"), (8.26, "8.3 s"), (59.99, "60.0 s"), (245, "4:05"), (3723, "1:02:03")]
)
def test_clocks(seconds, text):
    assert clocked(seconds) == text


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
