"""`zoo predict`: class names and probabilities for images."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.cli.errors import say
from zoo.cli.options import AsJson, Device, Views
from zoo.errors import InputError, printable

STANDARD_INPUT = "-"
SHOWN = 4

Checkpoint = typer.Argument(metavar="CHECKPOINT", help="A .safetensors file that zoo wrote.")
Images = typer.Argument(
    metavar="IMAGE_OR_DIR...", help="Image files, or folders of them; - reads paths from standard input, one a line."
)
Top = typer.Option(metavar="K", min=1, help="How many of the likeliest classes.")
Threshold = typer.Option(
    metavar="P", min=0, max=1, help="Of a multilabel network: labels with P or more; its own thresholds, else 0.5."
)
CsvOption = typer.Option("--csv", metavar="FILE", help="Write the rows as a CSV file, too.")
HtmlOption = typer.Option(
    "--html", metavar="FILE", help="Write a page of the images, too, and where the network looked."
)
Overwrite = typer.Option("--overwrite", help="Replace FILE where it is there already.")


def command(
    checkpoint: Annotated[str, Checkpoint],
    images: Annotated[list[str], Images],
    top: Annotated[int, Top] = 5,
    threshold: Annotated[float | None, Threshold] = None,
    tta: Views = None,
    csv_file: Annotated[str | None, CsvOption] = None,
    html_file: Annotated[str | None, HtmlOption] = None,
    overwrite: Annotated[bool, Overwrite] = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Name what is on images, from the checkpoint file alone: the likeliest classes with their probabilities.

    Rows are printed as they are made, and a batch of images is in memory, however many there are. An image that cannot
    be read has a row that says so, the others are done all the same, and the exit code is 1 then. A path among the
    arguments that leads nowhere is a mistake (exit code 2, nothing is done); on standard input it is a row.

    Examples:

        zoo predict checkpoints/quickstart/model.safetensors digit.png
        zoo predict checkpoints/quickstart/model.safetensors photos/ --top 1 --csv predictions.csv
        zoo predict checkpoints/quickstart/model.safetensors photos/ --html gallery.html
        find photos -name '*.jpg' | zoo predict checkpoints/quickstart/model.safetensors - --json
    """
    from zoo.data.image_folder import passed_over
    from zoo.formats.files import check_free
    from zoo.training.predict import find_images, listed_images, open_predictor
    from zoo.training.prediction_files import csv_writer
    from zoo.training.predictions import formula_warning

    if STANDARD_INPUT in images and len(images) > 1:
        raise InputError("- takes the place of all images", suggestion="zoo predict CHECKPOINT - < paths.txt")
    if csv_file is not None and html_file is not None and Path(csv_file).absolute() == Path(html_file).absolute():
        raise InputError("--csv and --html name the same file", suggestion="name another one for the page")
    listed = images == [STANDARD_INPUT]
    named = listed_images(sys.stdin.buffer) if listed else find_images(images)
    for file in filter(None, (csv_file, html_file)):
        check_free(Path(file), overwrite=overwrite, sources=[checkpoint, *(path for _, path in named if not listed)])
    for folder in images if not listed else ():
        if there := passed_over(Path(folder).expanduser()):
            say(f"{folder}: passed over: {there}")
    predictor = open_predictor(checkpoint, top, threshold=threshold, device=device, tta=tta)
    seen = _Seen()
    with contextlib.ExitStack() as files:
        rows: Iterable[dict[str, Any]] = seen.counted(predictor.rows(named))
        if csv_file is not None:
            names = predictor.names
            put = files.enter_context(csv_writer(Path(csv_file), predictor.task, top, names, overwrite=overwrite))
            rows = _written(rows, put)
        if html_file is not None:
            from zoo.reporting.gallery import gallery_writer

            title = f"What {Path(checkpoint).name} sees"
            draw = files.enter_context(gallery_writer(Path(html_file), predictor, title, overwrite=overwrite))
            rows = _written(rows, draw)
        _print(rows, as_json)
    if csv_file is not None and (warning := formula_warning(csv_file, (*predictor.names, *seen.formulas))):
        say(f"warning: {warning}")
    seen.report()


def _print(rows: Iterable[dict[str, Any]], as_json: bool) -> None:
    from zoo.training.prediction_files import document, table

    if as_json:
        for piece in document(rows):
            sys.stdout.write(piece)
    else:
        for line in table(rows):
            print(printable(line))


class _Seen:
    """How many images there were, and how many of them could not be read; the first of those called like formulas."""

    def __init__(self) -> None:
        self.images = self.unreadable = 0
        self.formulas: list[str] = []

    def counted(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        from zoo.training.predictions import is_formula

        for row in rows:
            self.images += 1
            self.unreadable += "error" in row
            if len(self.formulas) < SHOWN and is_formula(row["image"]):
                self.formulas.append(row["image"])
            yield row

    def report(self) -> None:
        """Ends the command: with exit code 1 where an image could not be read, 2 where there was none."""
        if not self.images:
            hint = "find photos -name '*.jpg' | zoo predict CHECKPOINT -"
            raise InputError("there is no path on standard input", suggestion=hint)
        if self.unreadable:
            say(f"{self.unreadable} of {self.images} images could not be read; their rows say why")
            raise SystemExit(1)


def _written(rows: Iterable[dict[str, Any]], put: Any) -> Iterator[dict[str, Any]]:
    for row in rows:
        put(row)
        yield row
