"""`zoo embed`: features of any module for every image of a data set."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer

from zoo.cli.export import printable_lines

Network = typer.Argument(metavar="CHECKPOINT|ARCHITECTURE", help="A file that zoo wrote, or an architecture's name.")
Data = typer.Argument(metavar="DATA", help="A folder of images, a CSV file, a data set's name, or a recipe.")
File = typer.Argument(metavar="FILE", help="What to write: NAME.safetensors, NAME.npz or NAME.parquet.")
ModuleOption = typer.Option("--module", metavar="PATH", help="Whose output is written; the head's input without it.")
WeightsOption = typer.Option("--weights", metavar="WEIGHTS", help="Of an architecture: a component, a tag or a file.")
PartOption = typer.Option("--part", help="Of the data; all parts without it.")
BatchSize = typer.Option(metavar="N", min=2, help="Images at once; 64.")
Device = typer.Option(metavar="D", help="auto, cpu, cuda, cuda:1, mps.")
Overwrite = typer.Option("--overwrite", help="Replace FILE where it is there already.")
AsJson = typer.Option("--json", help="One JSON document on standard output.")


def command(
    network: Annotated[str, Network],
    data: Annotated[str, Data],
    file: Annotated[str, File],
    module: Annotated[str | None, ModuleOption] = None,
    weights: Annotated[str | None, WeightsOption] = None,
    part: Annotated[Literal["train", "validation", "test"] | None, PartOption] = None,
    batch_size: Annotated[int | None, BatchSize] = None,
    device: Annotated[str, Device] = "auto",
    overwrite: Annotated[bool, Overwrite] = False,
    as_json: Annotated[bool, AsJson] = False,
) -> None:
    """Write what a module of a network gives for each image, with paths and labels, a batch at a time.

    The network runs as a frozen backbone does in training: batch norms folded, channels-last, in float32.

    Examples:

        zoo embed checkpoints/quickstart/model.safetensors photos/ photos.npz
        zoo embed checkpoints/quickstart/model.safetensors recipes/quickstart.yaml digits.parquet --part validation
        zoo embed tf_efficientnet_lite0 photos/ p.safetensors --weights efficientnet-lite/lite0 --module blocks.5
    """
    from zoo.verbs.files import embed

    made = embed(
        network, data, file, module=module, weights=weights, part=part, batch_size=batch_size, device=device,
        overwrite=overwrite,
    )  # fmt: skip
    print(json.dumps(made.as_dict(), indent=1) if as_json else printable_lines(made.render()))
