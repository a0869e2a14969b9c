"""`zoo compare`: two models on the same images, and whether their difference is more than chance."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from zoo.errors import printable

IMAGES = 10  # so many are shown
CLASSES = 20
SCALED = ("accuracy", "top5")  # shares of images, shown in per cent


def command(
    a: Annotated[str, typer.Argument(metavar="A", help="A checkpoint, or the folder of a run.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The other one.")],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE_OR_SOURCE",
            help="A recipe (its held-out samples), an image folder, a CSV file or a data set (all samples).",
        ),
    ] = None,
    part: Annotated[
        Literal["train", "validation", "test", "all"] | None,
        typer.Option(help="Of the data; of held-out samples test, where there is such a part, without it."),
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A metric in place of the usual; repeatable.")
    ] = None,
    csv_file: Annotated[
        str | None, typer.Option("--csv", metavar="FILE", help="Write all images on which they part to this file.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", min=1, help="Samples at once.")] = None,
    device: Annotated[str, typer.Option(metavar="D", help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Compare two models on the same images: the difference with a 95 % interval, a paired test, where they part.

    Without --data it is the held-out part of the data that both were trained on, which must be the same. Classes are
    matched by name. Where the test does not reject "no difference" at 5 %, none is shown.

    Examples:

        zoo compare runs/resnet runs/vit
        zoo compare runs/resnet runs/vit --data photos/test --csv parted.csv
        zoo compare old.safetensors new.safetensors --data photos/test --metric f1 --json
    """
    from zoo.verbs.measuring import compare

    check_new(csv_file)
    found = compare(a, b, data, part=part, metrics=metric, device=device, batch_size=batch_size)
    if csv_file is not None:
        write_csv(csv_file, found["images"])
    print(json.dumps(found, indent=1) if as_json else "\n".join(map(printable, as_text(found))))


def check_new(path: str | None) -> None:
    """Raises InputError for a file that is there already, or has no folder to be written into."""
    from zoo.errors import InputError

    if path is not None and Path(path).exists():
        raise InputError(f"{path} exists", suggestion="name another file with --csv, or move it away")
    if path is not None and not Path(path).absolute().parent.is_dir():
        raise InputError(f"there is no folder {Path(path).parent}", suggestion="make it, or name another file")


def write_csv(path: str, images: list[dict[str, Any]]) -> None:
    """The rows of the images as a table."""
    import io

    from zoo.formats.files import atomic_file, write_all

    columns = list(images[0]) if images else ["image", "true", "a", "b"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(images)
    with atomic_file(Path(path)) as file:
        write_all(file, text.getvalue().encode("utf-8", "backslashreplace"), 0)


def as_text(found: dict[str, Any]) -> Iterator[str]:
    """The lines that people see."""
    yield f"A  {found['a']['checkpoint']}: {found['a']['architecture']}"
    yield f"B  {found['b']['checkpoint']}: {found['b']['architecture']}"
    yield f"on {found['samples']:,} images of {found['data']['source']} ({' and '.join(found['parts'])})"
    yield ""
    rows = [["", "A", "B", "B - A", "95 % interval", "p", ""]]
    rows += [_metric(name, row) for name, row in found["metrics"].items()]
    yield from _table(rows)
    yield ""
    yield verdict(found)
    yield from (f"note: {note}" for note in found["notes"])
    yield from _classes(found["classes"])
    yield from _images(found["images"], most=found["data"]["task"] == "regression")


def verdict(found: dict[str, Any]) -> str:
    """What can be said of the main metric, in one line."""
    name, row = found["main"], found["metrics"][found["main"]]
    if row["difference"] is None:
        return f"{name} is undefined on these images: no difference shown"
    low, high = (_number(name, value, signed=True) for value in row["interval"])
    if found["better"] is None:
        return f"no difference shown in {name}: anything from {low} to {high} is compatible with these images"
    letter = found["better"].upper()
    return f"{letter} is better in {name}: the difference lies between {low} and {high}"


def _metric(name: str, row: dict[str, Any]) -> list[str]:
    a, b = (_number(name, row[key]) for key in ("a", "b"))
    if row["difference"] is None:
        return [name, a, b, "", "", "", "undefined on these images"]
    low, high = (_number(name, value, signed=True) for value in row["interval"])
    change = _number(name, row["difference"], signed=True)
    return [name, a, b, change, f"{low} to {high}", f"{row['p_value']:.2g}", row["test"]]


def _number(name: str, value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return "undefined"
    if name in SCALED:
        return f"{100 * value:+.2f} points" if signed else f"{100 * value:.2f} %"
    return f"{value:{'+' if signed else ''}.4f}"


def _classes(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The classes in which most images part the models, those beyond chance marked."""
    parted = [row for row in rows if row["only_a_right"] or row["only_b_right"]]
    parted.sort(key=lambda row: (row["p_value"], -abs(row["only_a_right"] - row["only_b_right"])))
    if not parted:
        return
    yield from ("", "by class (images that only one of them gets right)")
    table = [["class", "images", "A", "B", "only A", "only B", ""]]
    for row in parted[:CLASSES]:
        shares = (f"{100 * row[key]:.1f} %" for key in ("a", "b"))
        counts = (f"{row[key]:,}" for key in ("only_a_right", "only_b_right"))
        mark = f"p = {row['p_value']:.2g}" if row["p_value"] <= 0.05 else ""
        table.append([row["class"], f"{row['samples']:,}", *shares, *counts, mark])
    yield from _table(table)
    if len(parted) > CLASSES:
        yield f"and {len(parted) - CLASSES:,} more classes (--json lists them)"


def _images(rows: list[dict[str, Any]], *, most: bool) -> Iterator[str]:
    if not rows:
        return
    yield from ("", "they differ most on these images" if most else f"they part on {len(rows):,} images")
    cells = [[_cell(row[key]) for key in ("image", "true", "a", "b")] for row in rows[:IMAGES]]
    yield from _table([["image", "true", "A", "B"], *cells])
    if len(rows) > IMAGES:
        yield f"and {len(rows) - IMAGES:,} more (--csv FILE lists them)"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return " ".join(f"{each:.6g}" for each in value) if isinstance(value, list) else str(value) or "none"


def _table(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  " + "  ".join(cells).rstrip()
