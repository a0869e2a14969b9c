"""`zoo new plugin NAME`: a complete package to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.list import kind_called
from zoo.errors import InputError

With = typer.Option("--with", metavar="KIND,…", help="One component of each: surgery, dataset, weights, …")
Output = typer.Option(metavar="DIR", help="The folder to write; zoo-NAME in the current directory without it.")


def command(
    what: Annotated[str, typer.Argument(metavar="plugin", help="What is written: plugin.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The plugin's name: acme becomes the package zoo-acme.")],
    kinds: Annotated[str, With] = "surgery",
    output: Annotated[Path | None, Output] = None,
) -> None:
    """Write a plugin: a package that installs, passes its own tests and shows up in zoo list. Overwrites nothing.

    Examples:

        zoo new plugin acme
        zoo new plugin acme --with surgery,dataset,step
        zoo new plugin acme --with architecture --output code/zoo-acme
    """
    from zoo.registry import plugin_name
    from zoo.scaffolding.plugin import distribution_name, write_plugin

    if what != "plugin":
        raise InputError(f"zoo new writes a plugin, no {what!r}", suggestion=f"zoo new plugin {name}")
    asked = [kind_called(kind.strip()) or "" for kind in kinds.split(",") if kind.strip()]
    if not asked:
        raise InputError("--with names no kind", suggestion="for instance --with surgery,dataset")
    folder = write_plugin(name, list(dict.fromkeys(asked)), output)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        print(path)
    plugin = plugin_name(distribution_name(name))
    print(f"\nnext: pip install -e '{folder}[test]', zoo list --plugin {plugin}, pytest {folder}")
