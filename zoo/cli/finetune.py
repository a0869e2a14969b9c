"""`zoo finetune`: carry out a recipe."""

from __future__ import annotations

import json
import os
from typing import Annotated, Any, Literal

import typer


def command(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's YAML file.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Lay a value over the recipe; repeatable.")
    ] = None,
    output: Annotated[
        str | None, typer.Option(metavar="DIR", help="The run's folder; checkpoints/NAME (or NAME-2, …) without it.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was interrupted or failed.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what an earlier run left in the folder.")
    ] = False,
    seeds: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="As many runs, each with a seed of its own, and their spread."),
    ] = None,
    device: Annotated[str | None, typer.Option(metavar="D", help="auto, cpu, cuda, cuda:1, mps.")] = None,
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"] | None, typer.Option(help="Instead of the recipe's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Carry out a recipe: build, load weights, operate, freeze, train, and leave one checkpoint.

    All of the recipe is checked before anything heavy starts. The run's folder gets model.safetensors, which rebuilds
    the model anywhere by itself, report.json and recipe.yaml. After Ctrl-C or a failure it is the last complete epoch.

    Nothing is replaced unasked: without --output, a run goes to NAME-2, NAME-3, … where a finished one is in NAME;
    otherwise, where an earlier run is in the folder, say --resume, --overwrite or another --output.
    --overwrite removes what zoo wrote there (.zoo-run.json lists it), never another file. --resume takes a recipe that
    has changed where that leaves what is done as it is: later steps, more epochs, lr of the step it is at.

    --seeds N makes N runs that differ in their seed alone, seed-0, seed-1, … in the run's folder, and says mean, spread
    and 95 % interval of every metric; --resume keeps those that are finished.

    Examples:

        zoo finetune recipes/quickstart.yaml
        zoo finetune recipes/quickstart.yaml --set train.epochs=1 --set data.batch_size=32
        zoo finetune recipes/quickstart.yaml --output runs/one
        zoo finetune recipes/quickstart.yaml --output runs/one --resume
        zoo finetune recipes/quickstart.yaml --output runs/one --resume --set steps[2].train.lr=1e-3
        zoo finetune recipes/quickstart.yaml --output runs/one --overwrite
        zoo finetune recipes/quickstart.yaml --seeds 5
        torchrun --nproc-per-node 2 -m zoo finetune recipes/quickstart.yaml
    """
    from zoo.finetuning.report import summary
    from zoo.verbs import finetune, finetune_seeds

    options: dict[str, Any] = {"overrides": set_ or (), "output": output, "resume": resume, "overwrite": overwrite}
    options |= {"device": device, "precision": precision}
    if seeds is not None:
        runs = finetune_seeds(recipe, seeds, **options)
        if os.environ.get("RANK", "0") == "0":
            print(json.dumps(runs.report, indent=1) if as_json else runs)
        return
    run = finetune(recipe, **options)
    if os.environ.get("RANK", "0") == "0":  # a launcher's first process speaks for all
        print(json.dumps(run.report, indent=1) if as_json else summary(run.report))
