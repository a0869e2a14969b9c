"""`zoo convert`: weights to another layout, dtype or architecture; its options are the parameters of zoo.convert."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.errors import say
from zoo.errors import InputError, printable
from zoo.remap.plan import MIN_COVERAGE

if TYPE_CHECKING:
    from zoo.conversion.convert import Conversion

Name = str | None
Names = list[str] | None
File = Path | None

# What each option says of itself; names, types and defaults are those of `zoo.conversion.convert.convert`.
Source = typer.Argument(metavar="SRC", help="A file, folder, hf://org/repo[/file] or https://…")
Destination = typer.Argument(metavar="DST", help="The .safetensors file to write.")
RemapOption = typer.Option(
    metavar="RULES", help="A YAML file, a plugin's remap, `auto`, OLD=NEW or a rule; repeatable."
)
To = typer.Option(metavar="ARCHITECTURE", help="What DST shall fill; zoo.load rebuilds it.")
From = typer.Option("--from", metavar="ARCHITECTURE", help="What SRC is of.")
ToArgument = typer.Option("--to-argument", metavar="KEY=VALUE", help="An argument of --to, like num_classes=10.")
FromArgument = typer.Option("--from-argument", metavar="KEY=VALUE", help="An argument of --from.")
Dtype = typer.Option(metavar="D", help="Cast floating-point tensors: bfloat16, float32, …")
MinCoverage = typer.Option(
    metavar="F", min=0, max=1, help="The least share of --to filled, and of SRC used or dropped."
)
Verify = typer.Option("--verify", help="Run --from and --to on one batch and compare.")
DryRun = typer.Option("--dry-run", help="Print the plan; write nothing.")
Invert = typer.Option("--invert", help="Run the rules backwards.")
WriteRules = typer.Option(metavar="FILE", help="Save the rules used, or found by auto, as YAML.")
Key = typer.Option(metavar="KEY", help="Which of several state dicts of SRC, or networks in one (encoder_q).")
Overwrite = typer.Option("--overwrite", help="Replace DST if no conversion made it, and the FILE of --write-rules.")
TrustPickle = typer.Option("--trust-pickle", help="RUN the code in a pickle.")
VerifyBytes = typer.Option("--verify-bytes/--no-verify-bytes", help="Read DST back and compare every byte.")
Surgery = typer.Option("--surgery", metavar="NAME", help="Do this to SRC's network first: merge_adapters; repeatable.")
Verbose = typer.Option("--verbose", help="Every tensor instead of patterns.")
AsJson = typer.Option("--json", help="One JSON document.")


def command(
    source: Annotated[str, Source],
    destination: Annotated[File, Destination] = None,
    remap: Annotated[Names, RemapOption] = None,
    to: Annotated[Name, To] = None,
    from_: Annotated[Name, From] = None,
    to_arguments: Annotated[Names, ToArgument] = None,
    from_arguments: Annotated[Names, FromArgument] = None,
    dtype: Annotated[Name, Dtype] = None,
    min_coverage: Annotated[float, MinCoverage] = MIN_COVERAGE,
    verify: Annotated[bool, Verify] = False,
    dry_run: Annotated[bool, DryRun] = False,
    invert: Annotated[bool, Invert] = False,
    write_rules: Annotated[File, WriteRules] = None,
    key: Annotated[Name, Key] = None,
    trust_pickle: Annotated[bool, TrustPickle] = False,
    verify_bytes: Annotated[bool, VerifyBytes] = True,
    overwrite: Annotated[bool, Overwrite] = False,
    surgeries: Annotated[Names, Surgery] = None,
    verbose: Annotated[bool, Verbose] = False,
    as_json: Annotated[bool, AsJson] = False,
) -> None:
    """Move weights to other names, shapes, dtypes or files, and say exactly what went where.

    The plan is made on names and shapes before a byte moves. With --to, every parameter of the architecture has to be
    filled and all of the file used or dropped by a rule (see --min-coverage). Nothing is replaced unasked
    (--overwrite). docs/remap.md explains the rules.

    Examples:

        zoo convert model.pth model.safetensors
        zoo convert model.pth half.safetensors --dtype bfloat16
        zoo convert ddp.pth model.safetensors --remap '^module\\.=' --remap 'drop: ^fc\\.'
        zoo convert tv.pth timm.safetensors --to timm/resnet50 --dry-run
        zoo convert tv.pth timm.safetensors --remap auto --from torchvision/vgg16 --to timm/vgg16 --verify
        zoo convert moco.pth q.safetensors --to timm/resnet50 --to-argument num_classes=0 --key module.encoder_q
        zoo convert timm.safetensors back.safetensors --remap rules.yaml --invert
        zoo convert lora.safetensors merged.safetensors --surgery merge_adapters
    """
    from zoo.conversion.convert import NotConvertedError, convert

    ends = {
        "to_arguments": read_arguments(to_arguments, "--to-argument"),
        "from_arguments": read_arguments(from_arguments, "--from-argument"),
    }
    try:
        made = convert(
            source, destination, remap, to=to, from_=from_, **ends, dtype=dtype, min_coverage=min_coverage,
            verify=verify, dry_run=dry_run, invert=invert, write_rules=write_rules, key=key,
            trust_pickle=trust_pickle, verify_bytes=verify_bytes, overwrite=overwrite, surgeries=surgeries,
        )  # fmt: skip
    except NotConvertedError as error:
        _report(error.conversion, verbose=verbose, as_json=as_json)
        raise
    _report(made, verbose=verbose, as_json=as_json)


def read_arguments(pairs: list[str] | None, option: str) -> dict[str, Any]:
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


def _report(made: Conversion, *, verbose: bool, as_json: bool) -> None:
    """The plan and what came of it on standard output; notes and warnings on standard error."""
    for note in made.notes:
        say(f"note: {note}")
    for rule, part in made.plan.unused:
        say(f"warning: {rule} found nothing for {part!r}")
    if as_json:
        json.dump(made.as_dict(), sys.stdout, indent=1)
        print()
    else:
        print("\n".join(printable(line) for line in made.render(verbose=verbose).split("\n")))
