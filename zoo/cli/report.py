"""`zoo report`: a run as a page to look at, or several side by side."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from zoo.cli.errors import say


def command(
    runs: Annotated[list[str], typer.Argument(metavar="RUN…", help="Folders of runs, finished or not.")],
    output: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The page; report.html in the run's folder (several: comparison.html here)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The facts as a JSON document; no page is written.")] = False,
) -> None:
    """Write a run as one HTML file: curves, confusion, classes, calibration, the worst mistakes, weights, recipe.

    The page needs no network and no other file. Every run writes it at its end; this writes it again, or for a run of
    which only a part is there: one that failed, that was killed, or that is still at work. Of several runs the page has
    numbers, curves, classes and the difference of the recipes side by side.

    Examples:

        zoo report checkpoints/quickstart
        zoo report checkpoints/latest --output now.html
        zoo report runs/one runs/two
        zoo report checkpoints/quickstart --json
    """
    from zoo.reporting.facts import gather
    from zoo.reporting.write import report

    if as_json:
        facts = [gather(run) for run in runs]
        print(json.dumps(facts[0] if len(facts) == 1 else facts, indent=1))
        return
    path, notes = report(runs, output)
    for note in notes:
        say(f"note: {note}")
    print(path)
