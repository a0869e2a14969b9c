"""Writes a run's card and page. A run is never lost for their sake: what goes wrong here is said, once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import InputError, ZooError
from zoo.formats.files import atomic_file, write_all
from zoo.reporting.facts import Facts, gather
from zoo.training.folder import CARD, PAGE, REPORT, own_name

if TYPE_CHECKING:
    from zoo.data.open_data import OpenData
    from zoo.finetuning.run import ActiveRun
    from zoo.model.assembly import Assembly

COMPARISON = "comparison.html"


@contextmanager
def pages_written(run: ActiveRun, main: bool) -> Iterator[None]:
    """After the block, however it ends, the run's folder has a card and a page of what there is to say."""
    try:
        yield
    finally:
        if main:
            ended_well = run.state.finished()
            model = run.assembly if ended_well else None  # else the checkpoint's, if there is one
            write_pages(run.folder, note=run.listener.note, assembly=model, data=run.data)


def write_pages(
    folder: Path,
    *,
    note: Callable[[str], None],
    assembly: Assembly | None = None,
    data: OpenData | None = None,
) -> None:
    """Write README.md and report.html. What cannot be written is a remark."""
    try:
        facts = gather(folder)
        write_card(folder, facts)
        write_sweeps(folder, facts)
        write_page(folder / PAGE, facts, assembly, data)
    except Exception as error:  # a run that ended well did, whatever its description makes of it
        said = str(error) if isinstance(error, ZooError | OSError) else f"{type(error).__name__}: {error}"
        again = f"the run itself is not touched by it; zoo report {folder} tries again"
        note(f"warning: {PAGE} could not be written: {said.partition(chr(10))[0]} ({again})")


def complete_pages(folder: Path, note: Callable[[str], None]) -> None:
    """Write the pages of a finished run that was ended before they were: page or card are missing, or older than the
    report."""
    done = (folder / REPORT).stat().st_mtime_ns
    if not all((folder / name).is_file() and (folder / name).stat().st_mtime_ns >= done for name in (CARD, PAGE)):
        write_pages(folder, note=note)


def write_card(folder: Path, facts: Facts) -> None:
    """README.md, where the run has left a report."""
    if facts["report"] is None:
        return
    from zoo.reporting.card import card

    _write(folder / CARD, card(facts))


def write_sweeps(folder: Path, facts: Facts) -> None:
    """The picture of each learning-rate finder of the run."""
    from zoo.reporting.page import render, sweep

    for stage in (facts["report"] or {}).get("stages", []):
        if "suggestions" in stage and (chart := sweep(stage)) is not None:
            _write(folder / f"{stage['action']}-{stage['step']}.svg", render("chart.svg.jinja", c=chart))


def write_page(path: Path, facts: Facts, assembly: Assembly | None = None, data: OpenData | None = None) -> list[str]:
    """The page of a run at `path`; the notes that stand in it. Raises ZooError where it cannot be written."""
    from zoo.reporting.page import page
    from zoo.reporting.pictures import draw

    pictures = draw(facts, assembly, data)
    _write(path, page(facts, pictures))
    return [*facts["notes"], *pictures.notes]


def report(
    runs: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str] | None = None
) -> tuple[Path, list[str]]:
    """`zoo report`: the page of one run, in its folder, or of several side by side, as `comparison.html`; where it
    is, and what is missing from it.

    A file at `output` is replaced only where it is such a page. Raises InputError for a folder that is not a run's, and
    for a file that is somebody else's, WorkError where the disk is full.
    """
    facts = [gather(run) for run in runs]
    single = len(facts) == 1
    folder = Path(facts[0]["folder"])
    path = Path(output) if output is not None else folder / PAGE if single else Path(COMPARISON)
    path = path / (PAGE if single else COMPARISON) if path.is_dir() else path
    _check_replaced(path)
    if single:
        notes = write_page(path, facts[0])
        if output is None:
            own_name(folder, PAGE)
        return path, notes
    from zoo.reporting.comparison import comparison

    _write(path, comparison(facts))
    return path, [f"{one['folder']}: {note}" for one in facts for note in one["notes"]]


def _check_replaced(path: Path) -> None:
    """Raises InputError where something is at `path` that is no page of ours."""
    if not os.path.lexists(path):
        return
    from zoo.reporting.page import GENERATOR

    known = False
    if path.is_file() and not path.is_symlink():
        with open(path, "rb") as file:
            known = f'content="{GENERATOR}"'.encode() in file.read(4096)
    if not known:
        raise InputError(f"{path} was not written by zoo report", suggestion="name another file: --output FILE")


def _write(path: Path, text: str) -> None:
    with atomic_file(path, sync=False) as file:
        write_all(file, text.encode("utf-8", "backslashreplace"), 0)
