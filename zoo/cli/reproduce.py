"""`zoo reproduce`: run a finished run's recipe again, and compare."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    output: Annotated[
        str | None, typer.Option(metavar="DIR", help="Keep the second run there; a temporary folder without it.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="D", help="auto, cpu, cuda, …; the run's own without it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Run the recipe of a finished run again, and say whether the result is the same to the last bit.

    The run's folder is only read. Where the two runs part, the first step or epoch is named, the tensors and metrics
    that differ, and the likely cause: changed data, an edited recipe, other packages, threads or another machine. The
    exit code is 0 where they are bit-equal, 1 where not.

    Examples:

        zoo reproduce checkpoints/quickstart
        zoo reproduce checkpoints/quickstart --json
        OMP_NUM_THREADS=1 zoo reproduce checkpoints/quickstart --output runs/again
    """
    from zoo.verbs.training import reproduce

    found = reproduce(run, output=output, device=device)
    print(json.dumps(found.as_dict(), indent=1) if as_json else found)
    raise SystemExit(0 if found.equal else 1)
