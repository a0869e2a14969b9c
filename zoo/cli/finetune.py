"""`zoo finetune`: carry out a recipe."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Annotated, Any, Literal

import typer

from zoo.errors import InputError


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
    within: Annotated[
        str | None, typer.Option(metavar="TIME", help="The time for all of it (10m, 1h30m, 45s): epochs are planned.")
    ] = None,
    device: Annotated[str | None, typer.Option(metavar="D", help="auto, cpu, cuda, cuda:1, mps.")] = None,
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"] | None, typer.Option(help="Instead of the recipe's.")
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Errors, warnings and the final summary only, no progress.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    events: Annotated[
        bool, typer.Option("--events", help="JSON lines on standard output, one an event, as the run goes on.")
    ] = False,
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

    --within 10m tries the recipe out first, shares the time out among the train steps by what each would take, and ends
    in time; no step does more than the recipe says.

    Progress goes to standard error: a live view on a terminal, a line an epoch where it is piped or CI is set.

    Examples:

        zoo finetune recipes/quickstart.yaml
        zoo finetune recipes/quickstart.yaml --set train.epochs=1 --set data.batch_size=32
        zoo finetune recipes/quickstart.yaml --output runs/one
        zoo finetune recipes/quickstart.yaml --output runs/one --resume
        zoo finetune recipes/quickstart.yaml --output runs/one --resume --set steps[2].train.lr=1e-3
        zoo finetune recipes/quickstart.yaml --output runs/one --overwrite
        zoo finetune recipes/quickstart.yaml --seeds 5
        zoo finetune recipes/quickstart.yaml --within 10m
        zoo finetune recipes/quickstart.yaml --quiet --events
        torchrun --nproc-per-node 2 -m zoo finetune recipes/quickstart.yaml
    """
    if events and as_json:
        raise InputError("--events and --json both want standard output", suggestion="leave one of them out")
    if seeds and within:
        hint = "give each train step a time_budget"
        raise InputError("--within is for one run, and --seeds makes several", suggestion=hint)
    from zoo.finetuning.events import Events
    from zoo.finetuning.report import summary
    from zoo.training.callbacks import Listeners, Quiet
    from zoo.training.live import display
    from zoo.verbs.training import finetune, finetune_seeds

    main = os.environ.get("RANK", "0") == "0"  # a launcher's first process speaks for all
    options: dict[str, Any] = {"overrides": set_ or (), "output": output, "resume": resume, "overwrite": overwrite}
    options |= {"device": device, "precision": precision}
    shown = Quiet() if quiet else display(live=not (events and sys.stdout.isatty()))
    said = Events() if events and main else None
    options["progress"] = Listeners(shown, said) if said else shown
    with contextlib.ExitStack() as stack:
        stack.callback(shown.close)
        ended: dict[str, Any] = stack.enter_context(said.of_run(recipe, seeds)) if said else {}
        run = finetune_seeds(recipe, seeds, **options) if seeds else finetune(recipe, within=within, **options)
        ended |= {key: run.report[key] for key in ("checkpoint", "metrics", "seconds", "runs") if key in run.report}
        ended["folder"] = str(run.folder)
    if main and not events:
        print(json.dumps(run.report, indent=1) if as_json else run if seeds else summary(run.report))
