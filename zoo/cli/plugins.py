"""`zoo plugins`: which plugins there are, and switching one off or on."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from zoo import plugin_switches, registry
from zoo.cli.list import counts
from zoo.errors import InputError, did_you_mean, printable
from zoo.installed import all_entries


def command(
    action: Annotated[str | None, typer.Argument(metavar="[disable|enable]", help="Switch plugins off, or on.")] = None,
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Plugins.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """List the installed plugins, and switch plugins off or on.

    A plugin that is off supplies nothing: no command imports it, and a recipe that names it says so. The choice is kept
    in plugins.json in zoo's folder of settings ($ZOO_CONFIG, else ~/.config/zoo on Linux).

    For one command, ZOO_PLUGINS=acme,timm switches off all plugins but these, and ZOO_PLUGINS=-acme switches off this
    one. zoo's own components are always there.

    Examples:

        zoo plugins
        zoo plugins disable acme
        zoo plugins enable acme
        ZOO_PLUGINS=-acme zoo finetune recipes/quickstart.yaml
    """
    if action is None:
        print(json.dumps({"plugins": rows()}, indent=1) if as_json else as_text(rows()))
        return
    if action not in ("disable", "enable"):
        hint = did_you_mean(action, ["disable", "enable"]) or "zoo plugins disable NAME, or enable NAME"
        raise InputError(f"zoo plugins does not {action!r}", suggestion=hint)
    if not names:
        raise InputError(f"zoo plugins {action} needs a plugin's name", suggestion="see: zoo plugins")
    switched = [_switch(name, on=action == "enable") for name in _known(names, on=action == "enable")]
    print(json.dumps({"plugins": rows()}, indent=1) if as_json else "\n".join(switched))


def rows() -> list[dict[str, Any]]:
    """One row an installed plugin, those that are off too."""
    found: dict[tuple[str, str, str], list[Any]] = {}
    for row in all_entries():
        found.setdefault((row.plugin, row.distribution, row.version), []).append(row)
    return [
        {
            **dict(zip(("plugin", "distribution", "version"), key, strict=True)),
            "status": "off" if entries[0].status == "off" else "on",
            "why": entries[0].cause if entries[0].status == "off" else None,
            "entry_points": counts(entries),
            "broken": sum(entry.status == "broken" for entry in entries),
        }
        for key, entries in sorted(found.items())
    ]


def as_text(found: list[dict[str, Any]]) -> str:
    """The rows for people."""
    column = max((len(row["plugin"]) for row in found), default=0)
    lines = []
    for row in found:
        source = f"{row['distribution']} {row['version']}"
        state = row["why"] if row["status"] == "off" else row["entry_points"]
        broken = f"  ({row['broken']} broken: zoo doctor)" if row["broken"] else ""
        lines.append(printable(f"{row['plugin']:{column}}  {row['status']:4}{source:30}{state}{broken}"))
    return "\n".join(lines)


def _known(names: list[str], *, on: bool) -> list[str]:
    """The plugins' names. Raises InputError for what is neither installed nor, to be switched on, switched off."""
    known = {row.plugin for row in all_entries()} | (plugin_switches.disabled() if on else set())
    found = [registry.plugin_name(name) for name in names]
    for name in found:
        if name not in known:
            hint = did_you_mean(name, known) or f"installed: {', '.join(sorted(known))}"
            raise InputError(f"no plugin is called {name!r}", suggestion=hint)
    return found


def _switch(name: str, *, on: bool) -> str:
    changed, word = plugin_switches.switch(name, on=on), "on" if on else "off"
    registry.refresh()
    still = plugin_switches.why_off(name)
    if on and still:
        return f"{name} is on, but {still}"
    return f"{name} is {word}" if changed else f"{name} was {word} already"
