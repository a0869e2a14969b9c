"""`zoo check`: a recipe's mistakes, all at once, and a dry run of what it would do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cli.errors import say
from zoo.errors import InputError, printable

if TYPE_CHECKING:
    from zoo.preflight import Verdict
    from zoo.recipe import Recipe


def command(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="a recipe's YAML file")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="lay a value over the recipe; repeatable")
    ] = None,
    tree: Annotated[bool, typer.Option("--tree", help="print the model as the last step leaves it")] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="try it out on a few samples: time, memory and disk it would take")
    ] = False,
    images: Annotated[
        bool, typer.Option("--images", help="decode every image, not some of each part, and name all that are none")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON document")] = False,
) -> None:
    """Validate a recipe and dry-run it; nothing is trained.

    The model is built without memory, every step is taken on it, shapes are propagated. Prints what changes in the
    model and how many parameters train and are frozen at each train step. Of each part of the data 16 images are
    decoded, or all of them.

    Examples:

        zoo check recipes/quickstart.yaml
        zoo check recipes/quickstart.yaml --tree
        zoo check recipes/quickstart.yaml --set train.epochs=1 --set data.batch_size=16
        zoo check recipes/quickstart.yaml --estimate
        zoo check recipes/quickstart.yaml --images
        zoo check recipes/quickstart.yaml --json
    """
    from zoo.recipe import load_recipe

    try:
        loaded = load_recipe(recipe, set_ or ())
        from zoo.data.copies import copies_in
        from zoo.preflight import check

        verdict = check(loaded, images=images)
        verdict.notes += copies_in(verdict.data)
    except InputError as error:
        if not as_json:
            raise
        print(json.dumps(_refused(error), indent=1))
        raise SystemExit(error.exit_code) from None
    told = _estimated(loaded, verdict) if estimate and verdict.ok else ""
    for warning in verdict.warnings:
        say(f"warning: {warning}")
    if as_json:
        drawn = {"tree": _drawn(verdict)} if tree else {}
        print(json.dumps(verdict.as_dict() | drawn, indent=1))
        raise SystemExit(0 if verdict.ok else InputError.exit_code)
    _report(recipe, verdict, tree)
    for line in told.splitlines():
        print(printable(line))
    verdict.require()


def _estimated(recipe: Recipe, verdict: Verdict) -> str:
    """Try the recipe out; what it would take in lines, and in the verdict."""
    from zoo.finetuning.estimate import estimate

    found = estimate(recipe)
    verdict.estimate = found.as_dict()
    return str(found)


def _refused(error: InputError) -> dict[str, object]:
    """The document for a recipe that could not be read completely."""
    problems = [problem.as_dict() for problem in error.problems]
    return {"ok": False, "errors": problems, "warnings": [], "trainable": None, "frozen": None}


def _report(recipe: str, verdict: Verdict, tree: bool) -> None:
    from zoo.training.optimizers import phase_lines, rate_lines

    assembly = verdict.assembly
    if assembly is not None and verdict.input_shape is not None:
        shapes = [verdict.input_shape[1:], verdict.output_shape[1:] if verdict.output_shape else ()]
        sides = ["x".join(str(size) for size in shape) or "?" for shape in shapes]
        print(f"{assembly.architecture}  {sides[0]} -> {sides[1]}")
    for change in verdict.changes:
        print(printable(f"  {change}"))
    for stage in verdict.stages:
        where = stage.location.within
        print(f"{stage.action:8} {where:9} trains {stage.trainable:>13,}   frozen {stage.frozen:>13,}")
        for line in [*phase_lines(stage.phases), *(rate_lines(stage.groups) if len(stage.groups) > 1 else ())]:
            print(printable(f"    {line}"))
    for note in (*verdict.fitted, *(verdict.data.notes if verdict.data else ()), *verdict.notes):
        print(printable(note))
    if tree and assembly is not None:
        print(_drawn(verdict))
    if verdict.ok:
        print(f"{recipe}: no mistakes")


def _drawn(verdict: Verdict) -> str | None:
    from zoo.model.tree import tree

    assembly = verdict.assembly
    return tree(assembly.model, assembly.frozen, uncalled=verdict.uncalled) if assembly is not None else None
