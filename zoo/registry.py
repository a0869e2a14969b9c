"""Find components (metadata only) and load one (import it when it is named).

Finding reads the `entry_points.txt` of installed distributions and imports nothing. Only an architecture source is
loaded to list its names, which its contract says happens without torch. Whatever goes wrong inside a plugin becomes
a row marked broken; every other row goes on working.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from zoo.errors import InputError, did_you_mean
from zoo.installed import KINDS, Component, entries, module_files, plugin_name
from zoo.isolation import PluginError, guarded

__all__ = [
    "KINDS",
    "Component",
    "components",
    "entries",
    "examine",
    "load",
    "load_source",
    "module_files",
    "names",
    "plugin_name",
    "refresh",
    "resolve",
]

NAMES_LIMIT = 50_000  # more names than this from one source is taken for an endless generator
NAMES_SECONDS = 10.0  # to import a source and hear all its names


def refresh() -> None:
    """Forget what was found: look again at what is installed."""
    importlib.invalidate_caches()
    entries.cache_clear()
    _expand.cache_clear()


def components(kind: str | None = None) -> list[Component]:
    """Every component, architecture sources opened into one row an architecture."""
    rows: list[Component] = []
    for entry in entries():
        if kind is None or entry.kind == kind:
            rows.extend(_expand(entry) if entry.kind == "architectures" else [entry])
    return rows


def names(kind: str | None = None) -> list[str]:
    """Full names of all sound components."""
    return [row.name for row in components(kind) if row.status == "ok"]


@functools.cache
def _expand(entry: Component) -> tuple[Component, ...]:
    """The rows of an architecture source, or one row for a plain architecture or a broken plugin."""
    plain = replace(entry, name=f"{entry.plugin}/{entry.name}")
    unsure = entry if entry.name == entry.plugin else plain  # a broken one may have been meant as either
    if entry.status != "ok":
        return (unsure,)
    if _is_defined_callable(entry.target):
        return (plain,)
    try:
        members = guarded(lambda: _members(_import(entry)), seconds=NAMES_SECONDS)
    except PluginError as failure:
        return (unsure.broken(str(failure)),)
    if members is None:
        return (plain,)
    return tuple(replace(entry, name=f"{entry.name}/{member}", member=member) for member in members)


def _members(loaded: Any) -> list[str] | None:
    """The names a source gives, sorted; None for a plain callable. Runs the plugin's code: call it guarded."""
    if not hasattr(loaded, "names"):
        return None
    if not callable(getattr(loaded, "build", None)):
        raise TypeError("a source with names() needs build(name, **arguments)")
    given = loaded.names()
    found = list(itertools.islice(() if isinstance(given, str) else given, NAMES_LIMIT + 1))
    if len(found) > NAMES_LIMIT:
        raise ValueError(f"names() gave more than {NAMES_LIMIT} names")
    if isinstance(given, str) or (wrong := [name for name in found if not _is_name(name)]):
        raise TypeError(f"names() gave {given if isinstance(given, str) else wrong[0]!r}, which is not a name")
    return sorted(set(found))


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and name.isprintable() and bool(name) and " " not in name


def _is_defined_callable(target: str) -> bool:
    """Whether the module's text says that `target` is a function or a class: then it is listed without an import."""
    definition = re.compile(rf"^(?:def|class) {re.escape(target.partition(':')[2])}\b", re.M)
    return any(definition.search(path.read_text("utf-8", "replace")) for path in module_files(target))


def resolve(name: str, kind: str | None) -> Component:
    """The component called `name`: in full (`plugin/component`), or bare while that is unique; of any kind if None.

    Raises InputError for an unknown name (with the nearest ones), an ambiguous one (with all candidates) and a
    broken one (with its cause).
    """
    rows = components(kind)
    exact = [row for row in rows if row.name == name]
    matches = exact or [row for row in rows if row.name.partition("/")[2] == name]
    if len(matches) > 1:
        raise _ambiguous(name, matches)
    if not matches:
        raise _unknown(name, kind, rows)
    if matches[0].status != "ok":
        raise _broken(matches[0])
    return matches[0]


def load(name: str | Component, kind: str | None = None) -> Any:
    """Import one component; an architecture comes back as a builder `(**arguments) -> nn.Module`.

    Raises InputError when the name is unknown or its plugin is broken.
    """
    component = name if isinstance(name, Component) else resolve(name, kind)
    if component.member is not None:
        return functools.partial(load_source(component).build, component.member)
    return load_source(component)


def load_source(component: Component) -> Any:
    """What the entry point names: for an architecture of a source, the source (for tags, weights, preprocessing).

    Raises InputError when the plugin is broken.
    """
    try:
        return guarded(lambda: _import(component))
    except PluginError as failure:
        raise _broken(component.broken(str(failure))) from failure


def examine(component: Component) -> Component:
    """The row, marked broken with its cause when importing it fails."""
    if component.status == "ok":
        try:
            guarded(lambda: _import(component))
        except PluginError as failure:
            return component.broken(str(failure))
    return component


def _import(component: Component) -> Any:
    """Runs the plugin's code: call it guarded."""
    module, _, attribute = component.target.partition(":")
    loaded = functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    if not callable(loaded) and not (component.kind == "architectures" and hasattr(loaded, "build")):
        raise TypeError(f"{component.target} is {type(loaded).__name__}, which nobody can call")
    return loaded


def _ambiguous(name: str, matches: list[Component]) -> InputError:
    listed = ", ".join(f"{row.name} ({row.kind}, {row.distribution} {row.version})" for row in matches)
    if len({row.name for row in matches}) == len(matches):
        hint = "write the full name"
    elif len({row.kind for row in matches}) == len(matches):
        hint = "say which kind"
    else:
        hint = "two plugins supply the same name: uninstall one"
    return InputError(f"{name!r} is ambiguous: {listed}", suggestion=hint)


def _unknown(name: str, kind: str | None, rows: Iterable[Component]) -> InputError:
    broken = [row for row in rows if row.status != "ok"]
    for row in broken:
        if name.partition("/")[0] in (row.plugin, row.name):
            return _broken(row)
    hint = did_you_mean(name, [row.name for row in rows]) or f"see: zoo list{f' --kind {kind}' if kind else ''}"
    if broken:
        hint += f"; broken plugins: {', '.join(sorted({row.plugin for row in broken}))}, see: zoo doctor"
    return InputError(f"no {f'{kind} ' if kind else ''}component is called {name!r}", suggestion=hint)


def _broken(component: Component) -> InputError:
    where = f"{component.distribution} {component.version} ({component.target})"
    return InputError(
        f"{component.name} is broken: {where}: {component.cause}",
        suggestion=f"mend or remove it: pip uninstall {component.distribution}; see: zoo doctor",
    )
