"""Writes a run's card and page. A run is never lost for their sake: what goes wrong here is said, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import ZooError
from zoo.formats.files import atomic_file, write_all
from zoo.reporting.facts import Facts, gather
from zoo.training.folder import CARD

if TYPE_CHECKING:
    from zoo.finetuning.run import ActiveRun


@contextmanager
def pages_written(run: ActiveRun, main: bool) -> Iterator[None]:
    """After the block, however it ends, the run's folder has a card and a page of what there is to say."""
    try:
        yield
    finally:
        if main:
            write_pages(run.folder, note=run.listener.note)


def write_pages(folder: Path, *, note: Callable[[str], None]) -> None:
    """Write README.md. What cannot be written is a remark."""
    try:
        write_card(folder, gather(folder))
    except Exception as error:  # a run that ended well did, whatever its description makes of it
        said = str(error) if isinstance(error, ZooError | OSError) else f"{type(error).__name__}: {error}"
        note(f"warning: the run is complete, but could not be described: {said.partition(chr(10))[0]}")


def write_card(folder: Path, facts: Facts) -> None:
    """README.md, where the run has left a report."""
    if facts["report"] is None:
        return
    from zoo.reporting.card import card

    _write(folder / CARD, card(facts))


def _write(path: Path, text: str) -> None:
    with atomic_file(path, sync=False) as file:
        write_all(file, text.encode("utf-8", "backslashreplace"), 0)
