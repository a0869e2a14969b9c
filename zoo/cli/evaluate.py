"""`zoo evaluate`: measure a checkpoint on data."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Literal

import typer

from zoo.errors import printable


def command(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="A .safetensors file that zoo wrote.")],
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
        list[str] | None, typer.Option(metavar="NAME", help="A torchmetrics metric in place of its own; repeatable.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", min=1, help="Samples at once.")] = None,
    tta: Annotated[
        list[str] | None,
        typer.Option(metavar="VIEWS", help="Average views: flip, vertical_flip, rotations, five_crop; repeatable."),
    ] = None,
    device: Annotated[str, typer.Option(metavar="D", help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Measure a checkpoint, from the file alone: on the held-out part of its own data, or on other data.

    Behind each number stands its 95 % interval: where it would lie on other images from the same source. Precision,
    recall and F1 of each class follow, of more than 40 those of the 20 with the lowest F1. Classes are matched by name.
    Looking at test data again is recorded, and said.

    Examples:

        zoo evaluate checkpoints/quickstart/model.safetensors
        zoo evaluate checkpoints/quickstart/model.safetensors --data photos/test
        zoo evaluate checkpoints/quickstart/model.safetensors --data recipes/quickstart.yaml --json
        zoo evaluate checkpoints/quickstart/model.safetensors --part train
        zoo evaluate checkpoints/quickstart/model.safetensors --tta five_crop --tta flip
    """
    from zoo.recipe.step import shown
    from zoo.training.looks import said
    from zoo.training.losses import label_of
    from zoo.training.per_class import class_table
    from zoo.verbs.measuring import evaluate

    measured = evaluate(checkpoint, data, part=part, metrics=metric, device=device, batch_size=batch_size, tta=tta)
    if as_json:
        print(json.dumps(measured, indent=1))
        return
    for name, value in measured["metrics"].items():
        interval, called = measured["intervals"][name], label_of(measured["loss"]) if name == "loss" else name
        print(f"{called:15} {shown(value)}" + (f"  ({interval[0]:.4f} to {interval[1]:.4f})" if interval else ""))
    print(f"{'samples':16}{measured['samples']:,}\n{'part':16}{measured['part']}")
    if tta:
        print(f"{'views':16}{' x '.join(measured['tta'])}")
    if measured["absent"]:
        print(f"{'without samples':16}{', '.join(measured['absent'])}")
    for line in class_table(measured.get("per_class", [])):
        print(printable(line))
    if further := said(measured.get("test_looks", [])):
        print(further, file=sys.stderr)
