"""The live view of a train step on a terminal: two lines that are drawn over, below the lines that stay.

    train epoch 3/10  ━━━━━━━━━━━━━━━╺━━━━━━━━━━━━━━━━━━━━━━━━  step 1130/4690  1:23 left
    loss 0.4312  █▇▆▅▅▄▃▃▂▂▂▁  accuracy 0.9100  best 0.9200 (epoch 2)  1234 images/s

Bar and curve take the room that the text leaves; on a narrow terminal text goes, too, the time left last. Nothing is
drawn by a thread: a data loader's workers may be forked at any time, and would wait for its lock for ever.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean
from typing import IO, TYPE_CHECKING, Any, cast

from zoo.recipe.step import shown
from zoo.training.callbacks import Display, Stream, about, left, metric

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.table import Table

    from zoo.training.trainer import Trainer

BLOCKS = "▁▂▃▄▅▆▇█"
BAR, CURVE = (6, 40), (6, 32)  # columns, at least and at most
POINTS = 256  # of the curve are kept
DRAW_SECONDS = 0.1  # epochs on cached features take milliseconds; what stays above is drawn whenever it comes


def display(stream: IO[str] | None = None, *, live: bool = True) -> Display:
    """The live view where `stream` (standard error by default) is a terminal that can draw, plain lines elsewhere.

    Plain are a pipe, a file, TERM=dumb, and whatever runs with CI set; with `live=False` everything is.
    """
    safe = Stream(stream or sys.stderr)
    watched = os.environ.get("CI", "").lower() in ("", "0", "false")
    if live and watched and safe.isatty():
        from rich.console import Console

        console = Console(file=cast(IO[str], safe))
        if console.is_terminal and not console.is_dumb_terminal:
            return LiveDisplay(console)
    return Display(stream)


class LiveDisplay(Display):
    """Draws on a rich console, in its width and colours (NO_COLOR is respected): see the top of this file."""

    def __init__(self, console: Console) -> None:
        super().__init__(console.file)
        self.console = console
        self.live: Live | None = None
        self.trainer: Trainer | None = None
        self.loss: float | None = None
        self._drawn = 0.0

    def step_started(self, trainer: Trainer) -> None:
        from rich.live import Live

        super().step_started(trainer)
        self.trainer, self.loss, self.curve = trainer, None, Curve()
        self._seen = trainer.progress.epoch, 0, 0.0
        self.live = Live(
            console=self.console,
            get_renderable=self._view,
            auto_refresh=False,
            transient=True,
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),  # a file gets what is printed for it
        )
        self.live.start(refresh=True)

    def progressed(self, trainer: Trainer, loss: float) -> None:
        self.loss = loss
        self._extend_curve(trainer, loss)
        if self.live is not None and time.monotonic() - self._drawn > DRAW_SECONDS:
            self.live.refresh()

    def step_ended(self, trainer: Trainer) -> None:
        self.close()

    def close(self) -> None:
        live, self.live = self.live, None
        if live is not None:
            try:
                live.stop()
            finally:  # whatever a second Ctrl-C interrupts
                self.console.show_cursor(True)

    def _print(self, text: str) -> None:
        from rich.text import Text

        line = Text(text)
        line.highlight_regex(r"^warning:", "yellow")
        self.console.print(line, soft_wrap=True)

    def _extend_curve(self, trainer: Trainer, loss: float) -> None:
        """Adds the mean loss since the last look; `loss` is that of the epoch so far."""
        _, samples, summed = self._seen if self._seen[0] == trainer.progress.epoch else (0, 0, 0.0)
        sizes = trainer.job.train.size
        now = sum(sizes(index) for index in range(trainer.progress.batch))
        if now > samples:
            self.curve.add((loss * now - summed) / (now - samples))
            self._seen = trainer.progress.epoch, now, loss * now

    def _view(self) -> Group | str:
        from rich.console import Group
        from rich.progress_bar import ProgressBar

        trainer = self.trainer
        if trainer is None:
            return ""
        self._drawn = time.monotonic()
        progress, width = trainer.progress, self.console.width
        place = f"{trainer.job.label} epoch {min(progress.epoch + 1, trainer.epochs)}/{trainer.epochs}"
        rest = [f"step {progress.steps}/{trainer.steps}"] + [f"{left(trainer)} left"] * (self.loss is not None)
        first, room = _fitting([place, *rest], width, to_go=[1, 0])
        bar = ProgressBar(trainer.steps, progress.steps, width=min(room, BAR[1])) if room >= BAR[0] else None
        second, room = _fitting(self._numbers(trainer), width, to_go=[3, 2, 1])
        curve = self.curve.drawn(min(room, CURVE[1])) if room >= CURVE[0] and self._draws_blocks() else None
        return Group(_row(first, "bold", bar, "cyan"), _row(second, "none", curve or None, "none"))

    def _numbers(self, trainer: Trainer) -> list[str]:
        progress, best = trainer.progress, trainer.progress.best
        last = progress.history[-1]["validation"] if progress.history else {}
        name = "" if best is None or best["metric"] == trainer.metrics.main else f"{best['metric']} "
        ended = progress.batch == len(trainer.job.train)
        return [
            f"loss {self.loss:.4f}" if self.loss is not None else "starting",
            metric(last, trainer),
            f"best {name}{about(trainer)}{shown(best['value'])} (epoch {best['epoch']})" if best else "",
            "measuring" if ended else f"{trainer.rate:.0f} images/s" if self.loss is not None else "",
        ]

    def _draws_blocks(self) -> bool:
        return self.console.encoding.lower().startswith("utf")


class Curve:
    """The course of a number in one line of text. Of many values each point is the mean of equally many."""

    def __init__(self) -> None:
        self.points: list[float] = []
        self._each, self._next = 1, list[float]()

    def add(self, value: float) -> None:
        self._next.append(value)
        if len(self._next) == self._each:
            self.points.append(fmean(self._next))
            self._next.clear()
        if len(self.points) == POINTS:
            self.points = [fmean(pair) for pair in zip(self.points[::2], self.points[1::2], strict=True)]
            self._each *= 2

    def drawn(self, width: int) -> str:
        """At most `width` letters, the least value the lowest block, the largest the highest."""
        count = len(self.points)
        columns = min(count, width)
        ends = [index * count // columns for index in range(columns + 1)] if columns else []
        values = [fmean(self.points[start:end]) for start, end in pairwise(ends)]
        low, span = min(values, default=0.0), max(values, default=0.0) - min(values, default=0.0)
        return "".join(BLOCKS[round((value - low) / span * 7) if span > 0 else 3] for value in values)


def _fitting(parts: Sequence[str], width: int, *, to_go: Sequence[int]) -> tuple[list[str], int]:
    """The parts that fit beside each other, and the columns that are free; `to_go` has those that go first, in turn."""
    kept, going = dict(enumerate(parts)), list(to_go)
    while True:
        texts = [text for text in kept.values() if text]
        room = width - sum(len(text) + 2 for text in texts)
        if room >= -2 or not going:
            return texts, room
        kept.pop(going.pop(0))


def _row(texts: Sequence[str], style: str, graphic: Any, last: str) -> Table:
    """Texts beside each other, a bar or a curve behind the first one."""
    from rich.table import Table
    from rich.text import Text

    row = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    cells: list[Any] = [Text(text, style) for text in texts[:1]]
    cells += [] if graphic is None else [graphic]
    cells += [Text(text, last if index == len(texts) - 2 else "none") for index, text in enumerate(texts[1:])]
    for _ in cells:
        row.add_column(no_wrap=True, overflow="crop")
    row.add_row(*cells)
    return row
