"""`zoo convert`: weights under other names, shapes and dtypes, in a file of their own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.errors import say
from zoo.cli.inspect import printable
from zoo.errors import InputError

if TYPE_CHECKING:
    from zoo.conversion.carry_out import Conversion

Text = str | None


def command(
    source: Annotated[str, typer.Argument(metavar="SRC", help="A file, folder, hf://org/repo[/file] or https://…")],
    destination: Annotated[Path | None, typer.Argument(metavar="DST", help="The .safetensors file to write.")] = None,
    remap: Annotated[
        list[str] | None,
        typer.Option(metavar="RULES", help="A YAML file, a plugin's remap, `auto`, OLD=NEW or a rule; repeatable."),
    ] = None,
    to: Annotated[Text, typer.Option(metavar="ARCHITECTURE", help="What DST shall fill; zoo.load rebuilds it.")] = None,
    from_: Annotated[Text, typer.Option("--from", metavar="ARCHITECTURE", help="What SRC is of.")] = None,
    to_argument: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An argument of --to, like num_classes=10.")
    ] = None,
    from_argument: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="An argument of --from.")] = None,
    dtype: Annotated[Text, typer.Option(metavar="D", help="Cast floating-point tensors: bfloat16, float32, …")] = None,
    min_coverage: Annotated[
        float | None,
        typer.Option(
            metavar="F", min=0, max=1, help="The least share of --to filled, and of SRC used; all without it."
        ),
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Run --from and --to on one batch and compare.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; write nothing.")] = False,
    invert: Annotated[bool, typer.Option("--invert", help="Run the rules backwards.")] = False,
    write_rules: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Save the rules used, or found by auto, as YAML.")
    ] = None,
    key: Annotated[Text, typer.Option(metavar="KEY", help="Which of several state dicts of SRC.")] = None,
    trust_pickle: Annotated[bool, typer.Option("--trust-pickle", help="RUN the code that a pickle holds.")] = False,
    no_verify_bytes: Annotated[bool, typer.Option("--no-verify-bytes", help="Do not read DST back.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Every tensor instead of patterns.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Move weights to other names, shapes, dtypes or files, and say exactly what went where.

    The plan is made on names and shapes before a byte moves. With --to, every parameter of the architecture has to be
    filled and all of the file used or dropped by a rule (see --min-coverage). docs/remap.md explains the rules.

    Examples:

        zoo convert model.pth model.safetensors
        zoo convert model.pth half.safetensors --dtype bfloat16
        zoo convert ddp.pth model.safetensors --remap '^module\\.=' --remap 'drop: ^fc\\.'
        zoo convert tv.pth timm.safetensors --to timm/resnet50 --dry-run
        zoo convert tv.pth timm.safetensors --remap auto --from torchvision/vgg16 --to timm/vgg16 --verify
        zoo convert timm.safetensors back.safetensors --remap rules.yaml --invert
    """
    from zoo.conversion.convert import plan_and_convert

    made = plan_and_convert(
        source,
        destination,
        remap,
        to=to,
        from_=from_,
        to_arguments=_arguments(to_argument, "--to-argument"),
        from_arguments=_arguments(from_argument, "--from-argument"),
        dtype=dtype,
        min_coverage=min_coverage,
        verify=verify,
        dry_run=dry_run,
        invert=invert,
        write_rules=write_rules,
        trust_pickle=trust_pickle,
        key=key,
        verify_bytes=not no_verify_bytes,
    )
    _tell(made, verbose=verbose, as_json=as_json)
    if made.problems:
        raise made.error()


def _arguments(pairs: list[str] | None, option: str) -> dict[str, Any]:
    """KEY=VALUE pairs, the values read as YAML."""
    import yaml

    arguments: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise InputError(f"{option} {pair}: expected KEY=VALUE", suggestion=f"{option} num_classes=10")
        try:
            arguments[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"{option} {pair}: {value!r} is not a YAML value") from error
    return arguments


def _tell(made: Conversion, *, verbose: bool, as_json: bool) -> None:
    """The plan and what came of it on standard output; notes and warnings on standard error."""
    for note in made.planned.notes:
        say(printable(f"note: {note}"))
    for rule, part in made.planned.plan.unused:
        say(printable(f"warning: {rule} found nothing for {part!r}"))
    if as_json:
        json.dump(made.as_dict(), sys.stdout, indent=1)
        print()
        return
    from zoo.remap.explain import render

    lines = [f"{made.source}: {made.kind}", *render(made.planned.plan, verbose=verbose).splitlines()]
    if made.verification:
        lines.append(f"verified    {made.verification['message']}")
    if made.written:
        lines.append(f"wrote {made.destination}, {made.written['bytes'] / 1e6:,.1f} MB")
    elif not made.problems:
        lines.append("nothing was written (--dry-run)")
    print("\n".join(printable(line) for line in lines))
