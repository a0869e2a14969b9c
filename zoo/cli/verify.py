"""`zoo verify`: what a run or a checkpoint says of itself, checked again from the files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from zoo.cli.options import AsJson
from zoo.errors import printable

SHOWN = {"confirmed": "confirmed", "failed": "FAILED", "not checked": "not checked"}
WIDEST = 120  # characters of a value


def command(
    place: Annotated[str, typer.Argument(metavar="RUN|CHECKPOINT", help="The folder of a run, or a checkpoint.")],
    quick: Annotated[bool, typer.Option("--quick", help="Do not run the model again.")] = False,
    device: Annotated[
        str | None, typer.Option(metavar="D", help="cpu, cuda, cuda:1, mps, auto; that of the run without it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check all that a run or a checkpoint says of itself again, from the files.

    Digests of every part, the bits of what was frozen, base weights and coverage, metrics from the stored predictions
    and by running the model on its data again. What cannot be checked here is named with the reason. The exit code is 1
    where a check failed.

    Examples:

        zoo verify runs/one
        zoo verify runs/one/model.safetensors --quick
        zoo verify downloaded.safetensors --json
    """
    from zoo.verification.verify import verify

    found = verify(place, quick=quick, device=device)
    print(json.dumps(found, indent=1) if as_json else "\n".join(map(printable, as_text(found))))
    raise SystemExit(0 if found["ok"] else 1)


def as_text(found: dict[str, Any]) -> Iterator[str]:
    """A row a check, what failed with what was expected and found, and the sum."""
    yield found["checkpoint"]
    width = max(len(row["check"]) for row in found["checks"])
    for row in found["checks"]:
        yield f"  {SHOWN[row['result']]:13}{row['check']:{width}}  {row['detail']}"
        if row["expected"] is not None:
            yield f"  {'':13}{'':{width}}  expected {_cut(row['expected'])}, found {_cut(row['found'])}"
    yield f"{found['confirmed']} confirmed, {found['failed']} FAILED, {found['not_checked']} not checked"


def _cut(text: str | None) -> str:
    shown = str(text)
    return shown if len(shown) <= WIDEST else f"{shown[:WIDEST]}…"
