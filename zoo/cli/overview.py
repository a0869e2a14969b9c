"""The overview that `zoo list` shows on a terminal: plugins, kinds, counts, and every small kind in full."""

from __future__ import annotations

import shutil
import textwrap
from collections import Counter
from collections.abc import Sequence

from zoo.cli.list import counts, trouble
from zoo.registry import KINDS, Component


def overview(rows: Sequence[Component], *, small: int, width: int | None = None) -> str:
    """The text. A kind of more than `small` components is told as counts by namespace."""
    width = width or min(shutil.get_terminal_size().columns, 120)
    sound = [row for row in rows if row.status == "ok"]
    parts = [_plugins(sound)]
    parts += [_kind(kind, of_kind, small, width) for kind in KINDS if (of_kind := [r for r in sound if r.kind == kind])]
    if broken := [row for row in rows if row.status != "ok"]:
        parts.append("\n".join(["broken (zoo doctor says more)", *(f"  {r.name}: {trouble(r)}" for r in broken)]))
    return "\n\n".join(parts)


def _plugins(rows: Sequence[Component]) -> str:
    plugins = sorted({(row.plugin, row.version) for row in rows})
    column = max((len(plugin) for plugin, _ in plugins), default=0)
    lines = [f"plugins ({len(plugins)})"]
    for plugin, version in plugins:
        own = counts(row for row in rows if row.plugin == plugin)
        lines.append(f"  {plugin:{column}}  {version:8} {own}")
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
