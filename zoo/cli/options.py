"""Options that several commands have, worded once: each is the annotation of a command's parameter."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

HeldOutOrOther = Annotated[
    str | None,
    typer.Option(
        metavar="RECIPE_OR_SOURCE",
        help="A recipe (its held-out samples), an image folder, a CSV file or a data set (all samples).",
    ),
]
Part = Annotated[
    Literal["train", "validation", "test", "all"] | None,
    typer.Option(help="Of the data; of held-out samples test, where there is such a part, without it."),
]
Views = Annotated[
    list[str] | None,
    typer.Option(metavar="VIEWS", help="Average views: flip, vertical_flip, rotations, five_crop; repeatable."),
]
BatchSize = Annotated[int | None, typer.Option(metavar="N", min=1, help="Samples at once.")]
Device = Annotated[str, typer.Option(metavar="D", help="auto, cpu, cuda, cuda:1, mps.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
