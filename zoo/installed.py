"""What is installed: one row an entry point in zoo's groups, read from metadata alone. Nothing is imported.

A namespace belongs to the distribution of that name. A distribution that needs another zoo, whose metadata is damaged,
or that takes zoo's own namespace, has broken rows; those of a plugin that is switched off are marked so.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import itertools
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from zoo import plugin_switches
from zoo.errors import did_you_mean, printable
from zoo.plugin_memory import Asked
from zoo.plugin_process import Question

CORE = "zoo-kit"  # the distribution that this package is in
OWN = frozenset(
    {CORE}
    | {f"zoo-{name}" for name in ("efficientnet-lite", "sklearn", "tensorboard", "timm", "torchvision", "tutorial")}
    | {f"zoo-{name}" for name in ("huggingface", "openclip", "peft")}
)  # what comes from zoo's own repository is imported in this process, without a look at it in another one first
RESERVED = {"zoo": CORE, "kit": CORE, "python": CORE}  # namespaces that are nobody else's: checkpoints name them
KINDS = (
    *("architectures", "surgeries", "freezing", "modules", "datasets", "weights", "remaps", "initializers"),
    *("steps", "transforms", "losses", "metrics", "optimizers", "schedulers", "callbacks", "trackers"),
)


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
    metadata: str = field(default="", repr=False, compare=False)  # the folder with its distribution's metadata

    @property
    def short(self) -> str:
        """The name without its plugin's namespace: what people write while it is unique."""
        return self.name.partition("/")[2]

    @property
    def package(self) -> str:
        """The top-level package that its entry point names."""
        return re.split(r"[.:]", self.target)[0]

    @property
    def is_own(self) -> bool:
        """Whether it is one of zoo's own, in the core or in a plugin of zoo's repository."""
        return normal(self.distribution) in OWN

    def broken(self, cause: str) -> Component:
        return replace(self, status="broken", cause=cause)

    def ask(self, what: str) -> Asked:
        """A question about it, for `zoo.plugin_memory`."""
        question = Question(what, self.kind, self.target, self.distribution, self.version)
        return Asked(question, self.metadata, tuple(module_files(self.target)))


def plugin_name(distribution: str) -> str:
    """The namespace of a distribution: its name without `zoo-`. zoo's own distribution, zoo-kit, is `zoo`."""
    name = normal(distribution)
    return "zoo" if name == CORE else name.removeprefix("zoo-")


def normal(distribution: str) -> str:
    """A distribution's name as all tools compare it: `Zoo_Acme` is `zoo-acme`."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


@functools.cache
def all_entries() -> tuple[Component, ...]:
    """One row an entry point in zoo's groups, sorted, those of plugins that are switched off too; nothing is imported.

    A distribution that is visible twice on `sys.path` counts once, where Python itself would import it from. An entry
    that cannot work (no such kind, a line that is none, a module that is not there) is a broken row.
    """
    rows: dict[str, list[Component]] = {}
    for distribution in importlib.metadata.distributions():
        text, damage = _entry_points(distribution)
        if "[zoo." in text or damage:  # parsing METADATA of every distribution would cost more than all the rest
            name, version, requires = _metadata(distribution)
            if normal(name) in rows:
                continue
            where, cause = str(getattr(distribution, "_path", "")), damage or _needs_another_zoo(tuple(requires))
            found = [replace(row, metadata=where) for row in _rows(name, version, text)]
            if damage and not found:
                found = [Component(f"{plugin_name(name)}/?", "unknown", plugin_name(name), name, version, "?")]
            rows[normal(name)] = [row.broken(cause) if cause else row for row in found]
    ordered = sorted(itertools.chain(*rows.values()), key=lambda row: (row.kind, row.name))
    return tuple(_switched(row) for row in ordered)


def forget() -> None:
    """Read everything again: what is installed, or switched off, has changed."""
    importlib.invalidate_caches()
    for cached in (all_entries, _needs_another_zoo, _spec, _owners, version, requirements):
        cached.cache_clear()


def entries() -> tuple[Component, ...]:
    """As `all_entries`, without the plugins that are switched off."""
    return tuple(row for row in all_entries() if row.status != "off")


def _switched(row: Component) -> Component:
    why = plugin_switches.why_off(row.plugin)
    return row if why is None or normal(row.distribution) == CORE else replace(row, status="off", cause=why)


def _entry_points(distribution: importlib.metadata.Distribution) -> tuple[str, str | None]:
    """The text of `entry_points.txt`, empty where there is none, and what is wrong with it where it is no text."""
    try:
        return distribution.read_text("entry_points.txt") or "", None
    except UnicodeDecodeError as error:
        if b"zoo." not in error.object:
            return "", None
        cause = f"its entry_points.txt is not UTF-8 text (byte 0x{error.object[error.start]:02x} at {error.start})"
        return error.object.decode("utf-8", "replace"), cause
    except OSError:
        return "", None


def _metadata(distribution: importlib.metadata.Distribution) -> tuple[str, str, list[str]]:
    """Name, version and requirements of a distribution."""
    try:
        text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    except (OSError, UnicodeDecodeError):
        text = ""
    fields = re.findall(r"^(Name|Version|Requires-Dist):[ \t]*(.*?)\s*$", text.partition("\n\n")[0], re.M)
    found = {key: printable(value) for key, value in reversed(fields)}
    requires = [value for key, value in fields if key == "Requires-Dist"]
    return found.get("Name") or "unknown", found.get("Version") or "unknown", requires


@functools.cache
def _needs_another_zoo(requires: tuple[str, ...]) -> str | None:
    """What a distribution requires of zoo and does not have; None where it is content."""
    lines = [line for line in requires if normal(line).startswith(CORE) and set(line) & set("<>=~!")]
    if not lines:
        return None
    from packaging.requirements import InvalidRequirement, Requirement

    here = importlib.metadata.version(CORE)
    for line in lines:
        try:
            needed = Requirement(line)
        except InvalidRequirement:
            continue
        counts = normal(needed.name) == CORE and (needed.marker is None or needed.marker.evaluate({"extra": ""}))
        if counts and not needed.specifier.contains(here, prereleases=True):
            return f"it needs {CORE}{needed.specifier}, and this is {CORE} {here}"
    return None


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
    row = Component(printable(full), printable(kind), plugin, distribution, version, printable(target))
    if RESERVED.get(plugin, distribution) != distribution and normal(distribution) != CORE:
        return row.broken(f"the namespace {plugin!r} is {CORE}'s own: a distribution needs another name to be used")
    if kind not in KINDS:
        return row.broken(f"zoo has no kind {kind!r}; {did_you_mean(kind, KINDS) or 'the kinds: ' + ', '.join(KINDS)}")
    if not (name and equals and re.fullmatch(r"[\w.]+:[\w.]+", target)):
        return row.broken(f"the entry point {line!r} is not of the form `name = module:attribute`")
    if not name.isprintable():
        return row.broken(f"the entry point's name {name!r} contains what cannot be printed")
    if (package := row.package) not in sys.modules and _spec(package) is None:
        return row.broken(f"ModuleNotFoundError: No module named {package!r}")
    return row


@functools.cache
def _spec(package: str) -> importlib.machinery.ModuleSpec | None:
    """Where a top-level package would be imported from; None where it is not there."""
    if package in sys.modules:
        return sys.modules[package].__spec__
    try:
        return importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None


def module_files(target: str) -> list[Path]:
    """The Python file of `target`'s module, found without importing anything; empty where only an import could say."""
    package, *rest = target.partition(":")[0].split(".")
    if (spec := _spec(package)) is None:
        return []
    bases = [Path(folder, *rest) for folder in spec.submodule_search_locations or ()]
    paths = [base / "__init__.py" for base in bases] + [base.with_suffix(".py") for base in bases if rest]
    if spec.origin and not bases and not rest:
        paths.append(Path(spec.origin))
    return [path for path in paths if path.suffix == ".py" and path.is_file()]


@functools.cache
def _owners() -> dict[str, str]:
    """The distribution that each namespace belongs to."""
    return {row.plugin: normal(row.distribution) for row in all_entries()} | RESERVED


@functools.cache
def version(distribution: str) -> str | None:
    """The installed version, or None.

    A plugin counts as installed where zoo finds its components: Python looks for a folder of the distribution's name,
    and zoo goes by the name in its metadata.
    """
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return next((row.version for row in entries() if row.distribution == distribution), None)


@functools.cache
def requirements(distribution: str) -> tuple[str, ...]:
    """The names of the distributions that one needs directly, those of its extras left out."""
    try:
        lines = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return ()
    return tuple(re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines if "extra ==" not in line)


def owner(namespace: str) -> str | None:
    """The distribution that a namespace belongs to."""
    return _owners().get(namespace)


def mend(row: Component) -> str:
    """What to type to be rid of what is wrong with a broken row."""
    cause = row.cause or ""
    without = f"zoo plugins disable {row.plugin}, or pip uninstall {row.distribution}"
    if needed := re.match(rf"it needs ({CORE}\S*),", cause):
        return f"pip install --upgrade '{needed[1]}', or without it: {without}"
    if cause.startswith("the namespace"):
        return without
    missing = re.search(r"No module named '([\w.]+)'", cause)
    if missing and missing[1].partition(".")[0] != row.package:
        return f"pip install {missing[1].partition('.')[0]}, or without it: {without}"
    if missing:
        return f"pip install --force-reinstall {row.distribution}, or without it: {without}"
    return f"pip install --upgrade {row.distribution}, or without it: {without}"
