"""`zoo predict`: class names and probabilities for images."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from zoo.errors import printable


def command(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="A .safetensors file that zoo wrote.")],
    images: Annotated[list[str], typer.Argument(metavar="IMAGE_OR_DIR...", help="Image files, or folders of them.")],
    top: Annotated[int, typer.Option(metavar="K", min=1, help="How many of the likeliest classes.")] = 5,
    device: Annotated[str, typer.Option(metavar="D", help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Name what is on images, from the checkpoint file alone: the likeliest classes with their probabilities.

    The exit code is 1 when an image cannot be read; the others are done all the same.

    Examples:

        zoo predict checkpoints/quickstart/model.safetensors digit.png
        zoo predict checkpoints/quickstart/model.safetensors photos/ --top 1
        zoo predict checkpoints/quickstart/model.safetensors photos/*.jpg --json
    """
    from zoo.verbs import predict

    rows = predict(checkpoint, images, top, device=device)
    print(json.dumps({"images": rows}, indent=1) if as_json else "\n".join(printable(as_text(row)) for row in rows))
    raise SystemExit(1 if any("error" in row for row in rows) else 0)


def as_text(row: dict[str, Any]) -> str:
    """`photo.jpg  cat 97.12%  dog 1.88%`."""
    if "error" in row:
        return f"{row['image']}  error: {row['error']}"
    return "  ".join([row["image"], *map(_answer, row["predictions"])])


def _answer(prediction: dict[str, Any]) -> str:
    if "probability" in prediction:
        return f"{prediction['label']} {prediction['probability']:.2%}"
    return f"{prediction['label']} {prediction['value']:.6g}"
