"""`zoo doctor`: plugins, devices and versions; what is broken and how to mend it."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from zoo.cli import health


def command(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Look at all that zoo stands on: plugins (each component is imported), packages, devices, caches.

    The exit code is 1 when something is broken.

    Examples:

        zoo doctor
        zoo doctor --json
    """
    report: dict[str, Any] = {
        "plugins": health.plugins(),
        "packages": health.packages(),
        "machine": health.machine(),
    }
    report["ok"] = not troubles(report)
    print(json.dumps(report, indent=1) if as_json else as_text(report))
    raise SystemExit(0 if report["ok"] else 1)


def troubles(report: dict[str, Any]) -> list[str]:
    """What is broken and how to mend it, two lines each."""
    found = [(row["problem"], row["mend"]) for row in report["packages"] if row["problem"]]
    for plugin in report["plugins"]:
        source = f"{plugin['distribution']} {plugin['version']}"
        found += [
            (f"{row['name']}: {source} ({row['target']}): {row['cause']}", row["mend"]) for row in plugin["broken"]
        ]
    return [f"  {problem}\n    mend: {mend}" for problem, mend in found]


def as_text(report: dict[str, Any]) -> str:
    """The report for people; what is broken comes last, where the eye ends."""
    lines = ["plugins"]
    lines += [f"  {row['plugin']:20}{row['version']:10}{row['components']}" for row in report["plugins"]]
    lines += ["packages"]
    lines += [f"  {row['package']:20}{row['version'] or 'not installed'}" for row in report["packages"]]
    lines += ["machine"]
    lines += [f"  {key:20}{value}" for key, value in report["machine"].items()]
    found = troubles(report)
    return "\n".join([*lines, "broken" if found else "all is well", *found])
