"""The live view: what is drawn in which width, what stays in the scrollback, and that the terminal stays sound."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import subprocess
import sys
import threading

import pytest
import torch
from rich.console import Console

from zoo.training.callbacks import Display
from zoo.training.live import BLOCKS, POINTS, Curve, LiveDisplay, display

if sys.platform != "win32":
    import pty

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    """No variable of whoever runs the tests changes what is drawn."""
    for name in ("CI", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def console(width: int = 100, **options) -> Console:
    return Console(**{"file": Terminal(), "force_terminal": True, "width": width} | options)


def trained(make_trainer, shown: LiveDisplay, **options) -> str:
    trainer = make_trainer(listener=shown, **{"epochs": 3} | options)
    torch.manual_seed(0)
    trainer.begin(0, {})
    trainer.run()
    return shown.console.file.getvalue()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", text)


def views(shown: LiveDisplay, make_trainer, *, width: int | None = None) -> list[list[str]]:
    """The lines of the view at each look, without colours."""
    seen = []
    original = shown.progressed

    def progressed(trainer, loss):
        original(trainer, loss)
        paper = Console(file=io.StringIO(), width=width or shown.console.width, no_color=True)
        paper.print(shown._view(), end="")
        seen.append(paper.file.getvalue().splitlines())

    shown.progressed = progressed
    trained(make_trainer, shown)
    return seen


def test_step_epoch_bar_curve_best_rate_and_time_left(make_trainer):
    looks = views(LiveDisplay(console()), make_trainer)
    assert len(looks) >= 3  # at the end of each epoch, and each half second where an epoch takes longer
    first, second = looks[-1]
    assert re.fullmatch(r"train epoch 3/3  ━{38,40} +step 12/12  0.0 s left *", first), first
    pattern = rf"loss 0\.\d{{4}}  [{BLOCKS}]{{3}}  accuracy [\d.]+  best [\d.]+ \(epoch \d\)  measuring *"
    assert re.fullmatch(pattern, second), second
    assert "best" not in looks[0][1]  # nothing is measured before the first epoch ends


def test_the_lines_that_stay_are_those_of_a_pipe(make_trainer):
    written = trained(make_trainer, LiveDisplay(console()))
    kept = [line.lstrip("\r") for line in plain(written).splitlines() if "validation loss" in line]
    assert [line.partition("  ")[0] for line in kept] == ["train epoch 1/3", "train epoch 2/3", "train epoch 3/3"]
    stream = io.StringIO()
    trained_plain = make_trainer(listener=Display(stream), epochs=3)
    torch.manual_seed(0)
    trained_plain.begin(0, {})
    trained_plain.run()
    numbers = r"loss [\d.]+  validation loss [\d.]+  accuracy [\d.]+"
    assert re.findall(numbers, "\n".join(kept)) == re.findall(numbers, stream.getvalue())


@pytest.mark.parametrize("width", [8, 20, 40, 60, 79, 200])
def test_no_line_is_wider_than_the_terminal_and_the_time_left_goes_last(make_trainer, width):
    looks = views(LiveDisplay(console(width)), make_trainer)
    for first, second in looks:
        assert max(len(first), len(second)) <= width
        assert second.startswith("loss"[:width])
    assert ("0.0 s left" if width >= 10 else "0.0 s le") in looks[-1][0]
    assert ("epoch 3/3" in looks[-1][0]) is (width > 20)


def test_the_colours_of_the_terminal(make_trainer, monkeypatch):
    coloured = r"\x1b\[[0-9;]*(3[0-9]|38;5;\d+)m"
    assert re.search(coloured, trained(make_trainer, LiveDisplay(console())))
    monkeypatch.setenv("NO_COLOR", "1")
    text = trained(make_trainer, LiveDisplay(console()))
    assert not re.search(coloured, text)
    assert "train epoch 3/3" in plain(text)


def test_a_terminal_without_blocks_gets_no_curve(make_trainer):
    raw = io.BytesIO()

    class Ascii(io.TextIOWrapper):
        def isatty(self):
            return True

    shown = LiveDisplay(console(file=Ascii(raw, encoding="ascii", errors="strict")))
    trainer = make_trainer(listener=shown)
    trainer.begin(0, {})
    trainer.run()
    assert b"train epoch 2/2" in raw.getvalue()
    assert b"?" not in re.sub(rb"\x1b\[\?25[hl]", b"", raw.getvalue())


def test_where_it_is_drawn(monkeypatch):
    assert isinstance(display(Terminal()), LiveDisplay)
    assert type(display(io.StringIO())) is Display
    assert type(display(Terminal(), live=False)) is Display
    monkeypatch.setenv("FORCE_COLOR", "1")  # colours in a pipe are no terminal
    assert type(display(io.StringIO())) is Display
    for ci, kind in (("true", Display), ("1", Display), ("false", LiveDisplay), ("", LiveDisplay)):
        monkeypatch.setenv("CI", ci)
        assert type(display(Terminal())) is kind, ci
    for term in ("dumb", "unknown"):
        monkeypatch.setenv("TERM", term)
        assert type(display(Terminal())) is Display


@pytest.mark.parametrize("ended", [KeyboardInterrupt(), RuntimeError("broken")])
def test_the_cursor_is_back_and_the_view_gone_however_it_ends(make_trainer, ended):
    class Ending(LiveDisplay):
        def progressed(self, trainer, loss):
            super().progressed(trainer, loss)
            raise ended

    shown, streams = Ending(console()), (sys.stdout, sys.stderr)
    trainer = make_trainer(listener=shown)
    trainer.begin(0, {})
    with pytest.raises(type(ended)):
        trainer.run()
    written = shown.console.file.getvalue()
    assert written.index(HIDE) < written.rindex(SHOW)
    assert HIDE not in written[written.rindex(SHOW) :]
    assert (sys.stdout, sys.stderr) == streams
    shown.close()  # once more harms nothing


def test_a_second_interrupt_leaves_the_cursor_too(make_trainer):
    shown = LiveDisplay(console())
    trainer = make_trainer(listener=shown)
    shown.step_started(trainer)

    def interrupted():
        raise KeyboardInterrupt

    shown.live.stop = interrupted
    with pytest.raises(KeyboardInterrupt):
        shown.step_ended(trainer)
    assert shown.console.file.getvalue().endswith(SHOW)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__


class Vanishing(Terminal):
    """A terminal whose window is closed after so many writes."""

    def __init__(self, writes: int) -> None:
        super().__init__()
        self.rest = writes

    def write(self, text: str) -> int:
        self.rest -= 1
        if self.rest < 0:
            raise OSError(errno.EIO, "Input/output error")
        return super().write(text)


@pytest.mark.parametrize("writes", [0, 1, 4])
def test_a_terminal_that_goes_away_ends_no_run(make_trainer, writes):
    shown = display(Vanishing(writes))
    assert isinstance(shown, LiveDisplay)
    trainer = make_trainer(listener=shown)
    trainer.begin(0, {})
    assert trainer.run().epoch == 2


def test_nothing_is_drawn_by_a_thread(make_trainer):
    shown = LiveDisplay(console())
    before = threading.active_count()
    shown.step_started(make_trainer(listener=shown))
    assert threading.active_count() == before
    shown.close()


def test_the_curve():
    curve = Curve()
    assert curve.drawn(10) == ""
    for value in range(8):
        curve.add(float(value))
    assert curve.drawn(8) == curve.drawn(99) == BLOCKS
    assert curve.drawn(4) == "▁▃▆█"
    flat = Curve()
    flat.add(0.5)
    flat.add(0.5)
    assert flat.drawn(8) == "▄▄"


def test_a_long_curve_stays_short_and_keeps_its_form():
    curve = Curve()
    for value in range(50_000):
        curve.add(float(value))
    assert len(curve.points) < POINTS
    assert curve.drawn(8) == BLOCKS


def test_the_curve_is_of_the_loss_since_the_last_look(make_trainer):
    """Of an epoch's mean so far, 2 over 16 samples and then 1.5 over 32, the last 16 had 1."""
    shown = LiveDisplay(console())
    trainer = make_trainer(listener=shown)
    shown.step_started(trainer)
    for epoch, batch, loss in ((0, 1, 2.0), (0, 2, 1.5), (0, 2, 1.5), (1, 1, 0.75)):
        trainer.progress.epoch, trainer.progress.batch, trainer.rate = epoch, batch, 1.0
        shown.progressed(trainer, loss)
    shown.close()
    assert shown.curve.points == [2.0, 1.0, 0.75]


SCRIPT = """\
import os, signal, sys
from zoo.cli import run
if os.environ.get("STOP"):
    from zoo.training.live import LiveDisplay
    def progressed(self, trainer, loss, old=LiveDisplay.progressed):
        old(self, trainer, loss)
        if trainer.progress.epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)
    LiveDisplay.progressed = progressed
sys.exit(run(sys.argv[1:]))
"""
RECIPE = """\
name: small
model: {architecture: torchvision/squeezenet1_1}
data: {source: sklearn/digits, image_size: 32, batch_size: 16, limit: 64}
steps:
  - swap_head: {num_classes: auto}
  - train: {epochs: 2, lr: 1.0e-3}
"""


def on_a_terminal(folder, *arguments, columns=100, close_at="", **environment):
    """Exit code, standard output and what a terminal on standard error was sent; closed at the text `close_at`."""
    import fcntl
    import struct
    import termios

    (folder / "recipe.yaml").write_text(RECIPE)
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    command = [sys.executable, "-c", SCRIPT, "finetune", "recipe.yaml", "--output", "run", *arguments]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": follower}
    child = subprocess.Popen(command, cwd=folder, env={**os.environ, **environment}, **streams)
    os.close(follower)
    shown = bytearray()
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # the last one has closed it
            break
        if not piece:
            break
        shown += piece
        if close_at and close_at.encode() in shown:
            break
    os.close(leader)
    printed = child.communicate(timeout=60)[0].decode()
    return child.returncode, printed, shown.decode()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudoterminals")
def test_a_run_on_a_real_terminal(tmp_path):
    code, printed, text = on_a_terminal(tmp_path, "--json", columns=72)
    assert code == 0, text
    assert json.loads(printed)["checkpoint"] == "run/model.safetensors"
    assert text.count(HIDE) == 1
    assert text.rindex(SHOW) > text.index(HIDE)
    assert text.count("validation loss") == 2
    assert any(re.match(r"train epoch 2/2  ━+ +step 8/8  \S+ s left", line) for line in plain(text).splitlines())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudoterminals")
def test_an_interrupt_on_a_real_terminal(tmp_path):
    code, printed, text = on_a_terminal(tmp_path, STOP="1")
    assert (code, printed) == (130, "")
    assert HIDE not in text[text.rindex(SHOW) :]
    after = plain(text[text.rindex(SHOW) :])
    assert "interrupted: run/model.safetensors is train after epoch 1; --resume goes on from it" in after
    assert "Traceback" not in text


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudoterminals")
def test_a_real_terminal_that_is_closed(tmp_path):
    code, printed, text = on_a_terminal(tmp_path, close_at="train epoch 1/2")
    assert code == 0
    assert "validation loss" not in text
    assert "next: zoo predict run/model.safetensors" in printed
