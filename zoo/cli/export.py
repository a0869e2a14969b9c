"""`zoo export`: one file that runs without zoo, compared with torch at once."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from zoo.cli.errors import say
from zoo.errors import printable

Checkpoint = typer.Argument(metavar="CHECKPOINT", help="A .safetensors file that zoo wrote.")
File = typer.Argument(metavar="FILE", help="What to write: NAME.onnx, or NAME.pt2 (torch.export).")
PreprocessOption = typer.Option(
    "--preprocess", help="Resizing, cropping and normalisation inside: takes uint8 images [n, h, w, c] of any size."
)
Softmax = typer.Option("--softmax", help="Probabilities in place of logits.")
Int8 = typer.Option("--int8", help="Quantise the ONNX file, calibrated on training images.")
MaxChanged = typer.Option(metavar="SHARE", min=0, max=1, help="Of int8: images whose label may change; 0.05.")
DataOption = typer.Option(
    metavar="RECIPE_OR_SOURCE", help="Data to compare and calibrate on, as for `zoo evaluate`; its own without it."
)
Images = typer.Option(metavar="N", min=1, help="How many held-out images are compared.")
Calibration = typer.Option(metavar="N", min=1, help="How many training images int8 is calibrated on.")
Overwrite = typer.Option("--overwrite", help="Replace FILE where it is there already.")
AsJson = typer.Option("--json", help="One JSON document on standard output.")


def command(
    checkpoint: Annotated[str, Checkpoint],
    file: Annotated[str, File],
    preprocess: Annotated[bool, PreprocessOption] = False,
    softmax: Annotated[bool, Softmax] = False,
    int8: Annotated[bool, Int8] = False,
    max_changed: Annotated[float | None, MaxChanged] = None,
    data: Annotated[str | None, DataOption] = None,
    images: Annotated[int, Images] = 500,
    calibration: Annotated[int, Calibration] = 128,
    overwrite: Annotated[bool, Overwrite] = False,
    as_json: Annotated[bool, AsJson] = False,
) -> None:
    """Write a checkpoint as a file that runs without zoo, and run that file beside torch on held-out images at once.

    A float32 file that changes any label is not kept (exit code 1), an int8 file neither that changes more than
    --max-changed. Class names and preprocessing stand in the file.

    Examples:

        zoo export checkpoints/quickstart/model.safetensors digits.onnx
        zoo export checkpoints/quickstart/model.safetensors digits.onnx --preprocess --softmax --overwrite
        zoo export checkpoints/quickstart/model.safetensors digits8.onnx --int8 --max-changed 0.02
        zoo export checkpoints/quickstart/model.safetensors digits.pt2 --data photos/
    """
    from zoo.verbs.files import export

    made = export(
        checkpoint, file, preprocess=preprocess, softmax=softmax, int8=int8, max_changed=max_changed, data=data,
        images=images, calibration=calibration, overwrite=overwrite,
    )  # fmt: skip
    for note in made.notes:
        say(printable(f"note: {note}"))
    print(json.dumps(made.as_dict(), indent=1) if as_json else printable_lines(made.render()))


def printable_lines(text: str) -> str:
    """The text with control characters spelled out, line by line."""
    return "\n".join(map(printable, text.split("\n")))
