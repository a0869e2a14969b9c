"""`zoo list`: what is installed. It has a fifth of a second: argparse for typer, and nothing imported but names.

Parameters, input size and whether weights are here come from `zoo.cli.facts`, and only where they are shown.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from zoo import registry
from zoo.errors import InputError, did_you_mean
from zoo.registry import KINDS, Component


def overview(rows: Sequence[Component], *, small: int, width: int | None = None) -> str:
    """What a terminal shows. Of a kind of more than `small` components it has counts by namespace."""
    width = width or min(shutil.get_terminal_size().columns, 120)
    sound = [row for row in rows if row.status == "ok"]
    parts = [_plugins(sound, width)]
    parts += [_kind(kind, of_kind, small, width) for kind in KINDS if (of_kind := [r for r in sound if r.kind == kind])]
    if broken := [row for row in rows if row.status != "ok"]:
        parts.append("\n".join(["broken (zoo doctor says more)", *(f"  {r.name}: {trouble(r)}" for r in broken)]))
    return "\n\n".join(parts)


def _plugins(rows: Sequence[Component], width: int) -> str:
    plugins = sorted({(row.plugin, row.version) for row in rows})
    column = max((len(plugin) for plugin, _ in plugins), default=0)
    lines = [f"plugins ({len(plugins)})"]
    for plugin, version in plugins:
        own = counts(row for row in rows if row.plugin == plugin)
        head = f"  {plugin:{column}}  {version:8} "
        lines += textwrap.wrap(own, width, initial_indent=head, subsequent_indent=" " * len(head)) or [head.rstrip()]
    return "\n".join(lines)


def _kind(kind: str, rows: Sequence[Component], small: int, width: int) -> str:
    names = [row.name for row in rows]
    if len(rows) > small:
        spaces = Counter(name.partition("/")[0] for name in names)
        names = [f"{space}/* ({count:,})" for space, count in sorted(spaces.items())]
        return f"{kind} ({len(rows):,}; zoo list --kind {kind})\n{_wrapped(names, width)}"
    return f"{kind} ({len(rows)})\n{_wrapped(names, width)}"


def _wrapped(names: Sequence[str], width: int) -> str:
    joined = "  ".join(name.replace(" ", "\0") for name in names)
    lines = textwrap.wrap(
        joined, width - 2, initial_indent="  ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines).replace("\0", " ")


SMALL = 60  # a kind with more components than this is shown as counts
SINGULAR = {{"surgeries": "surgery", "losses": "loss"}.get(kind, kind.removesuffix("s")): kind for kind in KINDS}
EPILOG = """\
Examples:

    zoo list                          an overview; one name a line when piped
    zoo list resnet                   names that contain `resnet`
    zoo list 'timm/efficientnet*'     names that match a glob
    zoo list 'timm/resnet*' --parameters    count their parameters, once; a terminal then shows them
    zoo list --weights                what has pretrained weights on this machine
    zoo list --kind surgeries
    zoo list --plugin torchvision --kind dataset --json
"""


def run(arguments: list[str]) -> None:
    """Print the components that match: an overview, names or JSON. Raises InputError for an unknown kind or plugin."""
    options = parser().parse_args(arguments)
    rows = chosen(options.pattern, kind=kind_called(options.kind), plugin=options.plugin)
    if options.parameters:
        _measure(rows)
    looked_at = rows
    if options.weights:
        rows = _with_weights(rows)
    if options.json:
        print(json.dumps({"components": [as_dict(row) | _facts(row) for row in rows]}, indent=1))
    elif not sys.stdout.isatty():
        sys.stdout.writelines(f"{line(row)}\n" for row in rows)
    elif options.pattern or options.kind or options.plugin or options.weights or options.parameters:
        print("\n".join(table(rows)))
        _say_what_is_unknown(looked_at, options.pattern)
    else:
        print(overview(rows, small=SMALL))
    if not rows:
        print(f"nothing matches{_nearest(options.pattern)}", file=sys.stderr)


def _measure(rows: Sequence[Component]) -> None:
    from zoo.cli.facts import measure

    measure(rows)


def _with_weights(rows: Sequence[Component]) -> list[Component]:
    from zoo.cli.facts import facts_of

    return [row for row in rows if facts_of(row).weights_here]


def _facts(row: Component) -> dict[str, Any]:
    from zoo.cli.facts import facts_of

    return vars(facts_of(row))


def table(rows: Sequence[Component]) -> list[str]:
    """A line a row: its name and, for architectures and weights, what is known; `?` is what is not."""
    from zoo.cli.facts import facts_of

    width = max((len(row.name) for row in rows if row.kind in ("architectures", "weights")), default=0)
    lines = []
    for row in rows:
        facts = facts_of(row)
        here = {None: "?", True: "weights here", False: "weights not here"}[facts.weights_here]
        parameters = "?" if facts.parameters is None else f"{facts.parameters:,}"
        size = "?" if facts.input_size is None else "x".join(map(str, facts.input_size))
        cells = {"architectures": f"  {parameters:>13}  {size:>9}  {here}", "weights": f"  {here}"}
        known = cells.get(row.kind, "") if row.status == "ok" else ""
        lines.append(f"{line(row):{width if known else 0}}{known}")
    return lines


def _say_what_is_unknown(rows: Sequence[Component], pattern: str | None) -> None:
    from zoo.cli.facts import unknown

    if count := unknown(rows):
        again = f"zoo list {pattern!r} --parameters" if pattern else "zoo list PATTERN --parameters"
        print(f"{count:,} architectures have not been looked into: {again} does, and remembers", file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    """The options of `zoo list`."""
    made = argparse.ArgumentParser(
        "zoo list",
        usage="zoo list [OPTIONS] [PATTERN]",
        description="What is installed: every component of every plugin. Nothing is imported to find out but the\n"
        "name lists of architecture sources; a plugin that is broken is a row that says so.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("pattern", nargs="?", metavar="PATTERN", help="a glob (with * ? [ ]) or a part of the name")
    made.add_argument("--kind", metavar="KIND", help=f"only one kind: {', '.join(KINDS)}")
    made.add_argument("--plugin", metavar="NAME", help="only one plugin's")
    made.add_argument("--weights", action="store_true", help="only what has pretrained weights on this machine")
    made.add_argument(
        "--parameters",
        action="store_true",
        help="build the matching architectures without memory to count their parameters and\nlearn where their weights "
        "lie; remembered while versions stay (seconds to minutes)",
    )
    made.add_argument("--json", action="store_true", help="one JSON document")
    made.add_argument("--traceback", action="store_true", help="the entire traceback of whatever fails, a plugin's too")
    return made


def chosen(pattern: str | None, *, kind: str | None = None, plugin: str | None = None) -> list[Component]:
    """The rows that match, by kind and name. Raises InputError for a plugin that is not installed, or off."""
    if plugin is not None:
        plugin = registry.plugin_name(plugin)
        installed = sorted({row.plugin for row in registry.entries()})
        if plugin in (off := registry.switched_off()):
            raise InputError(f"the plugin {plugin} is {off[plugin]}", suggestion="see: zoo plugins")
        if plugin not in installed:
            hint = did_you_mean(plugin, installed) or f"installed: {', '.join(installed)}"
            raise InputError(f"no plugin is called {plugin!r}", suggestion=hint)
    rows = (row for row in registry.components(kind) if plugin in (None, row.plugin))
    return [row for row in rows if pattern is None or matches(row.name, pattern)]


def matches(name: str, pattern: str) -> bool:
    """Whether a name, with or without its namespace, fits a glob; or contains a plain pattern. Case does not matter."""
    name, pattern = name.lower(), pattern.lower()
    if not any(sign in pattern for sign in "*?["):
        return pattern in name
    from fnmatch import fnmatchcase

    return fnmatchcase(name, pattern) or fnmatchcase(name.partition("/")[2], pattern)


def line(row: Component) -> str:
    """A row as text: its name, and what is wrong with it."""
    return row.name if row.status == "ok" else f"{row.name}\t{row.status}: {trouble(row)}"


def trouble(row: Component) -> str:
    """Package, version, import string and cause of a broken row."""
    return f"{row.distribution} {row.version} ({row.target}): {row.cause}"


def as_dict(row: Component) -> dict[str, str | None]:
    """A row of the JSON document."""
    keys = ("name", "kind", "plugin", "version", "status", "distribution", "target", "cause")
    return {key: getattr(row, key) for key in keys}


def counts(rows: Iterable[Component]) -> str:
    """`1,371 architectures, 3 weights`."""
    found = Counter(row.kind for row in rows)
    singular = {kind: one for one, kind in SINGULAR.items()}
    return ", ".join(
        f"{count:,} {singular.get(kind, kind) if count == 1 else kind}" for kind, count in sorted(found.items())
    )


def kind_called(given: str | None) -> str | None:
    """The kind's name for its plural or singular. Raises InputError for neither."""
    if given is None or given in KINDS:
        return given
    if given in SINGULAR:
        return SINGULAR[given]
    hint = did_you_mean(given, [*KINDS, *SINGULAR]) or f"the kinds: {', '.join(KINDS)}"
    raise InputError(f"there is no kind {given!r}", suggestion=hint)


def _nearest(pattern: str | None) -> str:
    hint = did_you_mean(pattern.strip("*"), registry.names()) if pattern else None
    return f" {pattern!r} ({hint})" if hint else ""
