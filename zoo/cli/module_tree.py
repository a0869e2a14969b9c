"""A network's modules for people: a table in the width and colours of the terminal, plain lines when piped."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, TextIO

from zoo.errors import printable

if TYPE_CHECKING:
    from rich.text import Text

FEW = 40  # so many lines are drawn without being asked for
LETTERS = {"frozen": "F", "trainable": "T", "loaded": "L", "new": "N", "random": "R"}
COLOURS = {"F": "blue", "T": "green", "L": "cyan", "N": "magenta", "R": "red"}
LEGEND = "F frozen, T trains; L from the base weights, N new (a surgery made it), R random (neither)"
HEAD = ("module", "parameters", "share", "", "input", "output", "MACs", "")
RIGHT = (1, 2, 6)  # columns of numbers
WHOLE = (1, 2, 3, 4, 5, 6)  # columns that are never cut: half a number is another number
LEFT_OUT = (4, 5, 2)  # where a terminal is narrow, in this order
GAP = 2
NAMES = 30  # characters that the first column has in a narrow terminal


def summary(model: dict[str, Any]) -> Iterator[str]:
    """The lines above the tree."""
    parts = [f"{model[mark]:,} {mark}" for mark in LETTERS if model[mark]]
    yield f"  parameters   {model['parameters']:,}{' (' if parts else ''}{', '.join(parts)}{')' if parts else ''}"
    if model["input"]:
        yield f"  input        {_shape(model['input'])}"
    if model["output"]:
        yield f"  output       {_shape(model['output'])}"
    if model["macs"] is not None:
        yield f"  MACs         {model['macs']:,} for one image, in convolutions and matrix products"
    yield from (f"  note         {note}" for note in model["notes"])


def cut(node: dict[str, Any], depth: int) -> dict[str, Any]:
    """The tree down to `depth`."""
    return node | {"children": [cut(child, depth - 1) for child in node["children"]] if depth > 0 else []}


def fitting_depth(node: dict[str, Any]) -> int:
    """As deep as fits a screen, 1 at least."""
    depth, level = 0, [node]
    lines = 1
    while level := [child for parent in level for child in parent["children"]]:
        lines += len(level)
        if lines > FEW and depth > 0:
            break
        depth += 1
    return depth


def show(model: dict[str, Any], depth: int | None, stream: TextIO | None = None) -> None:
    """Print the tree down to `depth`, all of it with None."""
    stream = stream or sys.stdout
    root = model["tree"] if depth is None else cut(model["tree"], depth)
    known = model["frozen"] is not None or model["new"] is not None
    rows = [(_cells(f"{root['name']}", root)), *(_cells(text, node) for text, node in _drawn(root))]
    if stream.isatty():
        _coloured(rows, stream)
    else:
        print("\n".join(_plain([HEAD, *rows])), file=stream)
    if known:
        print(f"({LEGEND})", file=stream)


def _drawn(node: dict[str, Any], indent: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for position, child in enumerate(node["children"]):
        last = position == len(node["children"]) - 1
        label = child["name"] if child["count"] == 1 else f"{child['name']} ({child['count']}×)"
        yield f"{indent}{'└─' if last else '├─'} {label}  {child['kind']}", child
        yield from _drawn(child, indent + ("   " if last else "│  "))


def _cells(text: str, node: dict[str, Any]) -> tuple[str, ...]:
    parameters, macs = node["parameters"], node["macs"]
    letters = "".join(letter for mark, letter in LETTERS.items() if node[mark])
    return (
        printable(text),
        f"{parameters:,}" if parameters else "",
        f"{node['share']:.1%}" if parameters else "",
        letters,
        _shape(node["input"]),
        _shape(node["output"]),
        short(macs) if macs else "",
        printable(node["note"]),
    )


def _plain(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            f"{cell:>{width}}" if place in RIGHT else f"{cell:<{width}}"
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            if width
        )
        yield "  ".join(cells).rstrip()


def _coloured(rows: list[tuple[str, ...]], stream: TextIO) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(file=stream, highlight=False)
    widths = [max(len(cell) for cell in column) for column in zip(HEAD, *rows, strict=True)]
    used = _columns(widths, console.width)
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for place, width in used.items():
        side: Literal["left", "right"] = "right" if place in RIGHT else "left"
        table.add_column(HEAD[place], justify=side, no_wrap=True, overflow="ellipsis", width=width)
    for row in rows:
        table.add_row(*(_styled(place, row[place]) for place in used))
    console.print(table)


def _columns(widths: list[int], width: int) -> dict[int, int]:
    """The columns that are drawn, and how wide: names and notes are cut, columns of numbers complete or left out."""
    whole = {place: widths[place] for place in WHOLE if widths[place]}
    names = min(widths[0], NAMES)
    for place in LEFT_OUT:
        if names + sum(whole.values()) + GAP * len(whole) > width:
            whole.pop(place, None)
    room = width - sum(whole.values()) - GAP * len(whole)
    note = max(0, min(widths[-1], room - names - GAP))
    first = max(8, min(widths[0], room - (note + GAP if note else 0)))
    return {0: first, **whole, **({len(widths) - 1: note} if note else {})}


def _styled(place: int, cell: str) -> Text:
    """Text, so that a name in brackets is no markup: guides and numbers dim, letters in their colours."""
    from rich.text import Text

    if place == 3:
        return Text.assemble(*((letter, COLOURS[letter]) for letter in cell))
    if place == 0:
        text = Text(cell)
        text.highlight_regex(r"^[│├└─ ]+", "dim")
        text.highlight_regex(r"  \w+$", "cyan")
        return text
    return Text(cell, style="dim" if place in (4, 5) else "yellow" if place == 7 else "")


def _shape(shape: list[int] | None) -> str:
    return "×".join(map(str, shape)) if shape is not None else ""


def short(number: int) -> str:
    """`4.09 G`: three digits and a unit, of thousands."""
    amount, units = float(number), iter(("k", "M", "G", "T", "P"))
    unit = ""
    while amount >= 999.5 and unit != "P":
        amount, unit = amount / 1000, next(units)
    return f"{amount:.3g} {unit}".rstrip()
