"""Find components (metadata only), describe them, and load one (import it when it is named).

Finding reads the `entry_points.txt` of installed distributions and imports nothing. Only an architecture source is
loaded to list its names, which its contract says happens without torch. Whatever goes wrong inside a plugin becomes
a row marked broken; every other row goes on working.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import itertools
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from zoo.errors import InputError, WorkError, ZooError, did_you_mean
from zoo.given import absent, find_given, given_names, is_given
from zoo.isolation import PluginError, guarded

CORE = "zoo-kit"  # the distribution that this package is in
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

    @property
    def short(self) -> str:
        """The name without its plugin's namespace: what people write while it is unique."""
        return self.name.partition("/")[2]

    def broken(self, cause: str) -> Component:
        return replace(self, status="broken", cause=cause)


def plugin_name(distribution: str) -> str:
    """The namespace of a distribution: its name without `zoo-`. zoo's own distribution, zoo-kit, is `zoo`."""
    name = _normal(distribution)
    return "zoo" if name == CORE else name.removeprefix("zoo-")


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
    """The Python file of `target`'s module, found without importing anything; empty where only an import could say."""
    package, *rest = target.partition(":")[0].split(".")
    spec = sys.modules[package].__spec__ if package in sys.modules else importlib.util.find_spec(package)
    if spec is None:
        return []
    bases = [Path(folder, *rest) for folder in spec.submodule_search_locations or ()]
    paths = [base / "__init__.py" for base in bases] + [base.with_suffix(".py") for base in bases if rest]
    if spec.origin and not bases and not rest:
        paths.append(Path(spec.origin))
    return [path for path in paths if path.suffix == ".py" and path.is_file()]


__all__ = [
    "KINDS",
    "Component",
    "ask",
    "components",
    "entries",
    "examine",
    "find",
    "load",
    "load_source",
    "module_files",
    "named",
    "names",
    "plugin_name",
    "refresh",
    "resolve",
    "short_names",
    "unknown",
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
    for given in KINDS if kind is None else (kind,):
        rows += [Component(name, given, "python", "", "", name) for name in given_names(given)]
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


def named(name: str, kind: str | None) -> list[Component]:
    """All components that `name` may mean, broken ones too: those of that full name, else those of that bare one."""
    if name.startswith("kit/"):  # what recipes and checkpoints called zoo's own, by the distribution zoo-kit
        name = f"zoo/{name.removeprefix('kit/')}"
    rows = components(kind)
    return [row for row in rows if row.name == name] or [row for row in rows if row.short == name]


def find(name: str, kind: str | None) -> Component | None:
    """The component called `name`: in full (`plugin/component`), or bare while that is unique; of any kind if None.

    None where nothing is called so. Raises InputError for an ambiguous name (with all candidates) and for a broken
    component (with its cause).
    """
    matches = named(name, kind)
    if len(matches) > 1:
        raise _ambiguous(name, matches)
    if matches and matches[0].status != "ok":
        raise _broken(matches[0])
    return matches[0] if matches else None


def resolve(name: str | Component, kind: str | None) -> Component:
    """As `find`, but a name that nothing has is an InputError too, with the nearest names. A component is itself."""
    if isinstance(name, Component):
        return name
    found = find(name, kind)
    if found is None:
        raise unknown(name, kind)
    return found


def short_names(kind: str, *, full: bool = False) -> list[str]:
    """How people write the names of a kind: bare while that is unique, with `full` never.

    Architectures and datasets keep their namespace, which says where they come from.
    """
    rows = [row for row in components(kind) if row.status == "ok"]
    if full or kind in ("architectures", "datasets"):
        return [row.name for row in rows]
    uses = Counter(row.short for row in rows)
    return [row.short if uses[row.short] == 1 else row.name for row in rows]


def load(name: str | Component, kind: str | None = None) -> Any:
    """Import one component; an architecture comes back as a builder `(**arguments) -> nn.Module`.

    Raises InputError when the name is unknown or its plugin is broken.
    """
    component = resolve(name, kind)
    if component.member is not None:
        return functools.partial(load_source(component).build, component.member)
    return load_source(component)


def load_source(component: Component) -> Any:
    """What the entry point names: for an architecture of a source, the source (for tags, weights, preprocessing).

    Raises InputError when the plugin is broken.
    """
    if is_given(component.name):
        return find_given(component.kind, component.name)
    try:
        return guarded(lambda: _import(component))
    except PluginError as failure:
        raise _broken(component.broken(str(failure))) from failure


Answer = TypeVar("Answer")


def ask(component: Component, what: str, answer: Callable[[], Answer]) -> Answer:
    """What a component's own code says of itself, its weights or preprocessing, say.

    Raises WorkError, with `what` was asked for, for whatever the code raises that is not an error of zoo's.
    """
    try:
        return answer()
    except ZooError:
        raise
    except Exception as error:  # a plugin's code may fail in any way
        where = f"{component.distribution} {component.version} ({component.target})"
        raise WorkError(f"{component.name} fails to say {what}: {where}: {type(error).__name__}: {error}") from error


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


def unknown(name: str, kind: str | None) -> InputError:
    """What to say of a name that no component has: the nearest ones, or the broken plugin that it may belong to."""
    rows = components(kind)
    if is_given(name):
        return absent(kind or "", name)
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


Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Described:
    """`signature` as one would write the call; `documentation` is the cleaned docstring."""

    signature: str
    documentation: str


def describe(component: Component) -> Described:
    """What there is to read about a component. Raises InputError when it has to be imported and is broken."""
    if component.member is not None:
        return _of_source(component)
    name = component.short
    if node := _definition(component.target):
        signature = _fields(node) if component.kind == "steps" else _written(node)
        return Described(f"{name}{signature}", ast.get_docstring(node) or "")
    loaded = load(component)
    return Described(f"{name}{_inspected(loaded)}", inspect.getdoc(loaded) or "")


def _definition(target: str, depth: int = 4) -> Definition | None:
    """What `module:attribute` is, through `depth` times `from … import …`; None where the text does not say."""
    attribute = target.partition(":")[2]
    for path in module_files(target):
        for node in ast.parse(path.read_bytes()).body:
            if isinstance(node, Definition) and node.name == attribute:
                return node
            if isinstance(node, ast.ImportFrom) and node.level == 0 and depth:
                for alias in node.names:
                    if (alias.asname or alias.name) == attribute:
                        return _definition(f"{node.module}:{alias.name}", depth - 1)
    return None


def _of_source(component: Component) -> Described:
    """An architecture's arguments are those that its source's `build` takes beside the name."""
    build = load_source(component).build
    return Described(f"{component.member}{_inspected(build, skip='name')}", inspect.getdoc(build) or "")


def _written(node: Definition) -> str:
    """The parameters as they stand in the text; for a class, those of its `__init__`."""
    if not isinstance(node, ast.ClassDef):
        return f"({ast.unparse(node.args)})"
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            return f"({ast.unparse(part.args).removeprefix('self').removeprefix(', ')})"
    return "(…)"


def _fields(node: Definition) -> str:
    """A step's options: the annotated fields of its class."""
    fields = [part for part in node.body if isinstance(part, ast.AnnAssign) and "ClassVar" not in ast.unparse(part)]
    return f"(*, {', '.join(map(ast.unparse, fields))})" if fields else "()"


def _inspected(loaded: Any, skip: str | None = None) -> str:
    try:
        signature = inspect.signature(loaded)
    except (TypeError, ValueError):
        return "(…)"
    kept = [parameter for name, parameter in signature.parameters.items() if name != skip]
    return str(signature.replace(parameters=kept, return_annotation=inspect.Signature.empty)).replace("'", "")
