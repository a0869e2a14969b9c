"""`zoo merge`: checkpoints of one base averaged into one."""

from __future__ import annotations

import json
from typing import Annotated, cast

import typer

from zoo.cli.errors import say
from zoo.errors import InputError, printable

Files = typer.Argument(metavar="A B [C …] DST", help="Two checkpoints or more, and the .safetensors file to write.")
MethodOption = typer.Option(metavar="average|wise-ft|greedy", help="How they are averaged.")
To = typer.Option(metavar="ARCHITECTURE", help="What DST is of, where no checkpoint says it.")
ToArgument = typer.Option("--to-argument", metavar="KEY=VALUE", help="An argument of --to; repeatable.")
RemapOption = typer.Option(metavar="RULES", help="For files in another layout, in place of `auto`; repeatable.")
Alpha = typer.Option(metavar="F", min=0, max=1, help="Of wise-ft: 0 is A, 1 is B; else the best on --data, or 0.5.")
DataOption = typer.Option(
    metavar="RECIPE_OR_SOURCE", help="Validation data, as for `zoo evaluate`: measures, chooses, estimates batch norms."
)
Device = typer.Option(metavar="D", help="auto, cpu, cuda, cuda:1, mps.")
BatchSize = typer.Option(metavar="N", min=1, help="Samples at once.")
Overwrite = typer.Option("--overwrite", help="Replace DST where it is there already.")
AsJson = typer.Option("--json", help="One JSON document on standard output.")


def command(
    files: Annotated[list[str], Files],
    method: Annotated[str, MethodOption] = "average",
    to: Annotated[str | None, To] = None,
    to_arguments: Annotated[list[str] | None, ToArgument] = None,
    remap: Annotated[list[str] | None, RemapOption] = None,
    alpha: Annotated[float | None, Alpha] = None,
    data: Annotated[str | None, DataOption] = None,
    device: Annotated[str, Device] = "auto",
    batch_size: Annotated[int | None, BatchSize] = None,
    overwrite: Annotated[bool, Overwrite] = False,
    as_json: Annotated[bool, AsJson] = False,
) -> None:
    """Average checkpoints that were fine-tuned from one base, across layouts; heads are joined by class name.

    Members of other bases are refused, and with --data an average that is clearly worse than they are.

    Examples:

        zoo merge seed0.safetensors seed1.safetensors seed2.safetensors soup.safetensors
        zoo merge one.safetensors two.safetensors three.safetensors soup.safetensors --method greedy --data recipe.yaml
        zoo merge base.safetensors tuned.safetensors robust.safetensors --method wise-ft --alpha 0.5
        zoo merge timm.safetensors hf/model.safetensors mean.safetensors --to timm/vit_base_patch16_224
    """
    from zoo.cli.convert import read_arguments
    from zoo.conversion.merge import Method
    from zoo.verbs.files import merge

    if len(files) < 3:
        raise InputError("zoo merge takes two checkpoints or more and a destination", suggestion="zoo merge A B DST")
    made = merge(
        files[:-1], files[-1], method=cast(Method, method), to=to,
        to_arguments=read_arguments(to_arguments, "--to-argument"), remap=remap, alpha=alpha, data=data, device=device,
        batch_size=batch_size, overwrite=overwrite,
    )  # fmt: skip
    for note in made.notes:
        say(printable(f"note: {note}"))
    print(json.dumps(made.as_dict(), indent=1) if as_json else made.render())
