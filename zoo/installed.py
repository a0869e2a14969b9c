"""What is installed, read from the metadata of distributions and the text of modules; nothing is imported."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import itertools
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from zoo.errors import did_you_mean

KINDS = ("architectures", "surgeries", "freezing", "modules", "datasets", "weights", "remaps", "initializers")


@dataclass(frozen=True)
class Component:
    """One row of `zoo list`. `target` is the entry point's import string; `cause` says why a row is broken."""

    name: str
    kind: str
    plugin: str
    distribution: str
    version: str
    target: str
    status: str = "ok"
    cause: str | None = None
    member: str | None = None  # the architecture's name within its source; None for a component of its own

    def broken(self, cause: str) -> Component:
        return replace(self, status="broken", cause=cause)


def plugin_name(distribution: str) -> str:
    """The namespace of a distribution: its name without `zoo-`."""
    return _normal(distribution).removeprefix("zoo-")


def _normal(distribution: str) -> str:
    """A distribution's name as all tools compare it: `Zoo_Acme` is `zoo-acme`."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


@functools.cache
def entries() -> tuple[Component, ...]:
    """One row an entry point in zoo's groups, sorted; nothing is imported.

    A distribution that is visible twice on `sys.path` counts once, where Python itself would import it from. An entry
    that cannot work (no such kind, a line that is none, a module that is not there) is a broken row.
    """
    rows: dict[str, list[Component]] = {}
    for distribution in importlib.metadata.distributions():
        text = _entry_points(distribution)
        if "[zoo." in text:  # parsing METADATA of every distribution would cost more than all the rest
            name, version = distribution.name or "unknown", distribution.version or "unknown"
            rows.setdefault(_normal(name), list(_rows(name, version, text)))
    return tuple(sorted(itertools.chain(*rows.values()), key=lambda row: (row.kind, row.name)))


def _entry_points(distribution: importlib.metadata.Distribution) -> str:
    """The text of `entry_points.txt`; empty where there is none, or none that can be read."""
    try:
        return distribution.read_text("entry_points.txt") or ""
    except (OSError, UnicodeDecodeError):
        return ""


def _rows(distribution: str, version: str, text: str) -> Iterator[Component]:
    """The rows of one `entry_points.txt`."""
    plugin, group = plugin_name(distribution), ""
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("["):
            group = line.strip("[]").strip()
        elif group.startswith("zoo.") and line[0] not in "#;":
            yield _row(plugin, distribution, version, group.removeprefix("zoo."), line)


def _row(plugin: str, distribution: str, version: str, kind: str, line: str) -> Component:
    name, equals, target = (part.strip() for part in line.partition("="))
    full = name if kind == "architectures" else f"{plugin}/{name}"
    row = Component(full, kind, plugin, distribution, version, target)
    if kind not in KINDS:
        return row.broken(f"zoo has no kind {kind!r}; {did_you_mean(kind, KINDS) or 'the kinds: ' + ', '.join(KINDS)}")
    if not (name and equals and re.fullmatch(r"[\w.]+:[\w.]+", target)):
        return row.broken(f"the entry point {line!r} is not of the form `name = module:attribute`")
    if (package := re.split(r"[.:]", target)[0]) not in sys.modules and importlib.util.find_spec(package) is None:
        return row.broken(f"ModuleNotFoundError: No module named {package!r}")
    return row


def module_files(target: str) -> list[Path]:
    """The Python file of `target`'s module, found without importing anything; empty where only an import could tell."""
    package, *rest = target.partition(":")[0].split(".")
    spec = sys.modules[package].__spec__ if package in sys.modules else importlib.util.find_spec(package)
    if spec is None:
        return []
    bases = [Path(folder, *rest) for folder in spec.submodule_search_locations or ()]
    paths = [base / "__init__.py" for base in bases] + [base.with_suffix(".py") for base in bases if rest]
    if spec.origin and not bases and not rest:
        paths.append(Path(spec.origin))
    return [path for path in paths if path.suffix == ".py" and path.is_file()]
