"""`zoo diff`: what changed between two weight files, tensor by tensor and by module; torch is not imported."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from zoo.cli.inspect import count
from zoo.errors import printable

ROWS = 40  # so many rows are shown without being asked for


def command(
    a: Annotated[str, typer.Argument(metavar="A", help="The older file, folder, hf://… or https://… address.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The newer one.")],
    all_tensors: Annotated[bool, typer.Option("--all", help="Every tensor, equal ones too.")] = False,
    key_a: Annotated[str | None, typer.Option(metavar="KEY", help="Which of several state dicts of A.")] = None,
    key_b: Annotated[str | None, typer.Option(metavar="KEY", help="Which of several state dicts of B.")] = None,
    trust_pickle: Annotated[bool, typer.Option("--trust-pickle", help="RUN the code in a pickle.")] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 where they differ.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Compare two weight files: which tensors are equal, changed, missing or added, and by how much.

    A change is given relative to A's norm, with the cosine between both and the largest step in units in the last place
    (1 ulp is the next number there is). Formats may differ; names must agree.

    Examples:

        zoo diff pretrained.safetensors checkpoints/run/model.safetensors
        zoo diff before.pth after.safetensors --all
        zoo diff a.safetensors b.safetensors --exit-code && echo the same
    """
    from zoo.checkpoint.diff import diff

    found = diff(a, b, key_a=key_a, key_b=key_b, trust_pickle=trust_pickle)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        print("\n".join(printable(line) for line in as_text(found, all_tensors=all_tensors)))
    if exit_code and not found["equal"]:
        sys.exit(1)


def as_text(found: dict[str, Any], *, all_tensors: bool = False) -> Iterator[str]:
    """The lines that people see: totals, modules that changed, tensors that changed."""
    yield f"A  {found['a']['file']}: {found['a']['kind']}"
    yield f"B  {found['b']['file']}: {found['b']['kind']}"
    yield from (f"note: {note}" for note in found["notes"])
    yield "equal: every tensor has the same bits" if found["equal"] else _totals(found)
    for name in found["frozen_violations"]:
        yield f"warning: {name} was frozen, says B, but it differs"
    if found["metadata_changed"]:
        yield f"metadata differs: {', '.join(found['metadata_changed'])}"
    if found["ties_changed"]:
        yield f"tied otherwise: {', '.join(found['ties_changed'])}"
    modules = [row for row in found["modules"] if row["path"].count(".") == 0 and row["path"]]
    changed = [row for row in modules if set(row["counts"]) - {"equal"}]
    if len(changed) > 1:
        yield from ("", "by module")
        yield from _table([[row["path"], _counts(row["counts"]), *_change(row)] for row in changed])
    rows = [row for row in found["tensors"] if all_tensors or row["status"] != "equal"]
    if rows:
        shown = rows if all_tensors else rows[:ROWS]
        yield from ("", "by tensor")
        yield from _table([[row["name"], _status(row), *_change(row)] for row in shown])
        if len(shown) < len(rows):
            yield f"and {count(len(rows) - len(shown), 'more tensor')} (--all lists them, --json all there is)"


def _totals(found: dict[str, Any]) -> str:
    root = next((row for row in found["modules"] if not row["path"]), None)
    change = f"; {', '.join(_change(root))}" if root and any(_change(root)) else ""
    return f"{_counts(found['counts'])}{change}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {status.replace('_', ' ')}" for status, number in counts.items() if number)


def _status(row: dict[str, Any]) -> str:
    a, b = row["dtype"] if row["status"] == "dtype_changed" else row["shape"]
    pair = f" {a} -> {b}" if row["status"] in ("dtype_changed", "shape_changed") else ""
    return f"{row['status'].removesuffix('_changed')}{pair}"


def _change(row: dict[str, Any]) -> list[str]:
    """Relative change, cosine, share of changed elements, ulps; empty where no values were compared or none changed."""
    if not row.get("changed"):
        return ["", "", "", ""]
    relative = "from zero" if row["relative"] is None else f"{row['relative']:.3g} of the norm"
    cosine = "" if row["cosine"] is None else f"cosine {row['cosine']:.6f}"
    ulps = count(row["ulps"], "ulp") if 0 < row["ulps"] < 10_000 else ""
    if row["nonfinite"]:
        ulps = f"{ulps} {row['nonfinite']:,} to or from NaN or infinity".strip()
    return [relative, cosine, f"{row['changed']:,} of {row['elements']:,} elements", ulps]


def _table(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width).rstrip()
