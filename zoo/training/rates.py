"""What each parameter group trains at, as one table: rows for JSON and pages, lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import nn

Row = dict[str, Any]
COLUMNS = ("group", "from epoch", "lr", "weight decay", "parameters", "tensors")


def rate_rows(
    model: nn.Module, groups: Iterable[Mapping[str, Any]], begins: Mapping[str, int] = MappingProxyType({})
) -> list[Row]:
    """A row for each parameter group of an optimizer as it was made: `{"tensors", "parameters", "lr", "weight_decay",
    "first", "last", "from_epoch"}`.

    `lr` is the group's learning rate at its highest, `weight_decay` None where the optimizer has none, `first` and
    `last` are names, `begins` the epoch, counted from 1, in which a parameter begins to train by name, where not all do
    in the first.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rows = []
    for group in groups:
        inside = [names.get(id(parameter), "") for parameter in group["params"]]
        sizes = {"tensors": len(inside), "parameters": sum(parameter.numel() for parameter in group["params"])}
        rates = {"lr": group["lr"], "weight_decay": group.get("weight_decay")}
        ends = {"first": inside[0], "last": inside[-1]} if inside else {"first": "", "last": ""}
        rows.append({**sizes, **rates, **ends, "from_epoch": begins.get(ends["first"], 1)})
    return rows


def rate_lines(rows: Sequence[Row]) -> list[str]:
    """The rows as text, a line each under a header; which epoch a group trains from only where they differ."""
    staggered = len({row["from_epoch"] for row in rows}) > 1
    table = [[name for name in COLUMNS if staggered or name != "from epoch"]]
    for place, row in enumerate(rows, 1):
        decay = "none" if row["weight_decay"] is None else f"{row['weight_decay']:g}"
        cells = [str(place), str(row["from_epoch"]), f"{row['lr']:.3g}", decay, f"{row['parameters']:,}"]
        cells.append(f"{row['tensors']}: {row['first']}" + (f" … {row['last']}" if row["tensors"] > 1 else ""))
        table.append(cells if staggered else [cells[0], *cells[2:]])
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]) - 1)]
    return ["  ".join([*map(str.rjust, line[:-1], widths), line[-1]]) for line in table]


def phase_lines(phases: Sequence[Row]) -> list[str]:
    """The phases of gradual unfreezing as text, a line each."""
    lines = []
    for phase in phases:
        when = "never" if phase["epoch"] is None else f"from epoch {phase['epoch']}"
        lines.append(f"{when}: {phase['group']}, {phase['parameters']:,} parameters in {phase['tensors']} tensors")
    return lines
