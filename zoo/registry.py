"""Find components (metadata only) and load one (import it when it is named).

Finding reads the `entry_points.txt` of installed distributions and imports nothing. Only an architecture source is
loaded to list its names, which its contract says happens without torch. Whatever goes wrong inside a plugin becomes
a row marked broken; every other row goes on working.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import itertools
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from zoo.errors import InputError, did_you_mean

KINDS = ("architectures", "surgeries", "freezing", "modules", "datasets", "weights", "remaps", "initializers")
NAMES_LIMIT = 50_000  # more names than this from one source is taken for an endless generator
NAMES_SECONDS = 5.0


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
    return distribution.lower().replace("_", "-").removeprefix("zoo-")


@functools.cache
def entries() -> tuple[Component, ...]:
    """One row an entry point in zoo's groups, sorted; nothing is imported."""
    found: dict[tuple[str, str, str], Component] = {}
    for distribution in importlib.metadata.distributions():
        text = distribution.read_text("entry_points.txt")
        if not text or "[zoo." not in text:
            continue  # parsing METADATA of every installed distribution would cost more than all the rest
        for component in _rows(distribution):
            found.setdefault((component.kind, component.distribution, component.name), component)
    return tuple(sorted(found.values(), key=lambda row: (row.kind, row.name)))


def _rows(distribution: importlib.metadata.Distribution) -> Iterator[Component]:
    name = distribution.metadata["Name"] or "unknown"
    plugin = plugin_name(name)
    for entry in distribution.entry_points:
        kind = entry.group.removeprefix("zoo.")
        if not entry.group.startswith("zoo.") or kind not in KINDS:
            continue
        full = entry.name if kind == "architectures" else f"{plugin}/{entry.name}"
        yield Component(full, kind, plugin, name, distribution.version, entry.value)


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
    try:
        loaded = _import(entry)
        if not hasattr(loaded, "names"):
            return (replace(entry, name=f"{entry.plugin}/{entry.name}"),)
        with _deadline(NAMES_SECONDS):
            members = list(itertools.islice(loaded.names(), NAMES_LIMIT + 1))
    except (Exception, SystemExit) as error:
        return (entry.broken(_cause(error)),)
    if len(members) > NAMES_LIMIT:
        return (entry.broken(f"names() gave more than {NAMES_LIMIT} names"),)
    if wrong := [member for member in members if not isinstance(member, str)]:
        return (entry.broken(f"names() gave {wrong[0]!r}, which is not a string"),)
    return tuple(replace(entry, name=f"{entry.name}/{member}", member=member) for member in sorted(set(members)))


def resolve(name: str, kind: str) -> Component:
    """The component called `name`: in full (`plugin/component`), or bare while that is unique.

    Raises InputError for an unknown name (with the nearest ones), an ambiguous one (with all candidates) and a
    broken one (with its cause).
    """
    rows = components(kind)
    matches = [row for row in rows if name in (row.name, row.name.partition("/")[2])]
    exact = [row for row in matches if row.name == name]
    matches = exact or matches
    if len(matches) > 1:
        listed = ", ".join(f"{row.name} ({row.distribution} {row.version})" for row in matches)
        raise InputError(f"{name!r} is ambiguous among {kind}: {listed}", suggestion="write the full name")
    if not matches:
        raise _unknown(name, kind, rows)
    if matches[0].status != "ok":
        raise _broken(matches[0])
    return matches[0]


def load(name: str | Component, kind: str | None = None) -> Any:
    """Import one component; an architecture comes back as a builder `(**arguments) -> nn.Module`.

    Raises InputError when the name is unknown or its plugin is broken.
    """
    component = name if isinstance(name, Component) else resolve(name, kind or "")
    try:
        loaded = _import(component)
    except (Exception, SystemExit) as error:
        raise _broken(component.broken(_cause(error))) from error
    if component.member is not None:
        return functools.partial(loaded.build, component.member)
    if not callable(loaded):
        raise _broken(component.broken(f"{component.target} is {type(loaded).__name__}, not a callable"))
    return loaded


def load_source(component: Component) -> Any:
    """The architecture source behind an architecture (for tags, weights and preprocessing), or the callable."""
    return _import(component)


def _import(component: Component) -> Any:
    entry = importlib.metadata.EntryPoint(component.name, component.target, f"zoo.{component.kind}")
    return entry.load()


def _cause(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip().rstrip(":")


def _unknown(name: str, kind: str, rows: Iterable[Component]) -> InputError:
    hint = did_you_mean(name, [row.name for row in rows])
    return InputError(f"no {kind} component is called {name!r}", suggestion=hint or f"see: zoo list --kind {kind}")


def _broken(component: Component) -> InputError:
    where = f"{component.distribution} {component.version} ({component.target})"
    return InputError(
        f"{component.name} is broken: {where}: {component.cause}",
        suggestion=f"mend or remove it: pip uninstall {component.distribution}; see: zoo doctor",
    )


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the body after `seconds`, where signals can do it (main thread, POSIX)."""
    usable = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if not usable:
        yield
        return

    def expired(*_: object) -> None:
        raise TimeoutError(f"names() took more than {seconds:g} s")

    previous: Callable[..., Any] | int | None = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
