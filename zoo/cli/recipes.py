"""`zoo recipes`: the recipes that come with zoo, and a copy of one to start from."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from zoo.errors import InputError, did_you_mean


def command(
    action: Annotated[str | None, typer.Argument(metavar="[copy]", help="Copy one.")] = None,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Which one.")] = None,
    destination: Annotated[
        str | None, typer.Argument(metavar="DEST", help="A file or a folder; the current folder without it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """List the recipes that come with zoo, or copy one to start from. Nothing is overwritten.

    Examples:

        zoo recipes
        zoo recipes copy quickstart
        zoo recipes copy tutorials/mlp mine/mlp.yaml
    """
    from zoo.recipe.shipped import copy, shipped, title

    if action is None:
        rows = [{"name": name, "file": str(file), "title": title(file)} for name, file in shipped().items()]
        width = max((len(row["name"]) for row in rows), default=0)
        text = "\n".join(f"{row['name']:{width}}  {row['title']}".rstrip() for row in rows)
        print(json.dumps({"recipes": rows}, indent=1) if as_json else text)
        return
    if action != "copy":
        hint = did_you_mean(action, ["copy"]) or "zoo recipes, or zoo recipes copy NAME"
        raise InputError(f"zoo recipes does not {action!r}", suggestion=hint)
    if name is None:
        raise InputError("zoo recipes copy needs a recipe's name", suggestion="see: zoo recipes")
    place = copy(name, destination)
    print(json.dumps({"file": str(place)}) if as_json else f"{place}\n  zoo check {place}")
