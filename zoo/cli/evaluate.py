"""`zoo evaluate`: measure a checkpoint on data."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def command(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="A .safetensors file that zoo wrote.")],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE_OR_SOURCE",
            help="A recipe (its held-out samples), an image folder, a CSV file or a data set (all samples).",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A torchmetrics metric in place of the usual; repeatable.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", min=1, help="Samples at once.")] = None,
    device: Annotated[str, typer.Option(metavar="D", help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Measure a checkpoint, from the file alone: on the held-out part of its own data, or on other data.

    Classes are matched by name.

    Examples:

        zoo evaluate checkpoints/quickstart/model.safetensors
        zoo evaluate checkpoints/quickstart/model.safetensors --data photos/test
        zoo evaluate checkpoints/quickstart/model.safetensors --data recipes/quickstart.yaml --json
    """
    from zoo.verbs import evaluate

    measured = evaluate(checkpoint, data, metrics=metric, device=device, batch_size=batch_size)
    if as_json:
        print(json.dumps(measured, indent=1))
        return
    for name, value in measured["metrics"].items():
        print(f"{name:16}{value:.4f}")
    print(f"{'samples':16}{measured['samples']:,}")
