"""Find components (metadata only), describe them, and load one (import it when it is named).

Finding reads the `entry_points.txt` of installed distributions and imports nothing. Only an architecture source is
asked for its names: zoo's own in this process, which their contract says happens without torch, and anybody else's in
a process of its own, once (`zoo.plugin_memory`). A full name opens its own source and no other. Whatever goes wrong
inside a plugin becomes a row marked broken; every other row goes on working.

A namespace belongs to the distribution of that name; a bare name that one of zoo's own components has is that one,
whatever is installed.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from zoo import installed, plugin_memory
from zoo.errors import InputError, did_you_mean
from zoo.given import absent, find_given, given_names, is_given
from zoo.installed import (
    CORE,
    KINDS,
    RESERVED,
    Component,
    all_entries,
    entries,
    mend,
    module_files,
    normal,
    owner,
    plugin_name,
)
from zoo.isolation import PluginError, guarded, note, owns_process, warn
from zoo.plugin_memory import Asked, answers_to
from zoo.plugin_process import IMPORT, NAMES, Answer, import_target, names_of
from zoo.surroundings import Surroundings

__all__ = [
    "CORE",
    "KINDS",
    "Component",
    "Examined",
    "components",
    "entries",
    "examine",
    "find",
    "load",
    "load_source",
    "mend",
    "module_files",
    "named",
    "names",
    "plugin_name",
    "refresh",
    "resolve",
    "short_names",
    "switched_off",
    "unknown",
    "why_absent",
]


def refresh() -> None:
    """Forget what was found: look again at what is installed."""
    installed.forget()
    _own_rows.cache_clear()
    plugin_memory.forget()


def switched_off() -> dict[str, str]:
    """The plugins that are switched off, and why."""
    return {row.plugin: row.cause or "" for row in all_entries() if row.status == "off"}


def components(kind: str | None = None) -> list[Component]:
    """Every component, architecture sources opened into one row an architecture."""
    rows = _opened(entry for entry in entries() if kind in (None, entry.kind))
    return rows + _given(kind)


def _given(kind: str | None) -> list[Component]:
    """The objects that this call of zoo was handed."""
    kinds = KINDS if kind is None else (kind,)
    return [Component(name, each, "python", "", "", name) for each in kinds for name in given_names(each)]


def names(kind: str | None = None) -> list[str]:
    """Full names of all sound components."""
    return [row.name for row in components(kind) if row.status == "ok"]


def _opened(found: Iterable[Component]) -> list[Component]:
    """The rows, architecture sources opened; all those that have to be asked are asked together."""
    rows = list(found)
    asked = [row.ask(NAMES) for row in rows if _is_asked(row) and not row.is_own]
    answers = dict(zip(asked, answers_to(asked), strict=True))
    opened: list[Component] = []
    for row in rows:
        if not _is_asked(row):
            opened.append(_plain(row) if row.kind == "architectures" else row)
        else:
            opened += _own_rows(row) if row.is_own else _members(row, answers[row.ask(NAMES)])
    return opened


def _is_asked(row: Component) -> bool:
    """Whether only the plugin's own code can say what an entry point stands for."""
    return row.kind == "architectures" and row.status == "ok" and not _is_defined_callable(row.target)


def _plain(row: Component) -> Component:
    """An architecture of its own; a broken one may have been meant as a source of the plugin's name, too."""
    if row.status != "ok" and row.name == row.plugin:
        return row
    return replace(row, name=f"{row.plugin}/{row.name}")


def _members(row: Component, answer: Answer) -> list[Component]:
    """The rows of an architecture source, or one row for a plain architecture or a broken plugin."""
    if answer.cause is not None:
        if answer.trace:
            note(answer.trace)
        return [_plain(row.broken(answer.cause))]
    if answer.value is None:
        return [_plain(row)]
    if (keeper := owner(row.name)) not in (None, normal(row.distribution)):
        cause = f"the namespace {row.name!r} is {keeper}'s: a source of {row.distribution} needs a name of its own"
        return [replace(row.broken(cause), name=f"{row.plugin}/{row.name}")]
    return [replace(row, name=f"{row.name}/{member}", member=member) for member in answer.value]


@functools.cache
def _own_rows(row: Component) -> tuple[Component, ...]:
    """The rows of a source of zoo's own, more than a thousand of timm's."""
    return tuple(_members(row, _own_members(row)))


def _own_members(row: Component) -> Answer:
    """What a source of zoo's own says, asked in this process."""
    try:
        return Answer(value=guarded(lambda: names_of(_import(row)), package=row.package))
    except PluginError as failure:
        return Answer(str(failure))


def _is_defined_callable(target: str) -> bool:
    """Whether the module's text says that `target` is a function or a class: then it is listed without an import."""
    definition = re.compile(rf"^(?:def|class) {re.escape(target.partition(':')[2])}\b", re.M)
    return any(definition.search(path.read_text("utf-8", "replace")) for path in module_files(target))


def named(name: str, kind: str | None) -> list[Component]:
    """All components that `name` may mean, broken ones too: those of that full name, else those of that bare one.

    A full name opens no source but its own. Where one of zoo's own has a bare name, it means that one.
    """
    if is_given(name):
        return [row for row in _given(kind) if row.name == name]
    if name.startswith("kit/"):  # what recipes and checkpoints called zoo's own, by the distribution zoo-kit
        name = f"zoo/{name.removeprefix('kit/')}"
    namespace, slash, _ = name.partition("/")
    if slash:
        own = _opened(row for row in entries() if kind in (None, row.kind) and _may_hold(row, namespace))
        rows = [row for row in own if row.name == name]
        if rows:
            return [row for row in rows if normal(row.distribution) == RESERVED.get(row.plugin)] or rows
    rows = [row for row in components(kind) if row.short == name]
    return [row for row in rows if normal(row.distribution) == CORE] or rows


def _may_hold(row: Component, namespace: str) -> bool:
    """Whether a component of this namespace may stand behind an entry point."""
    if row.kind != "architectures":
        return row.plugin == namespace
    own = normal(row.distribution)
    return row.plugin == namespace or (row.name == namespace and owner(namespace) in (None, own))


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
    own = {row.short for row in rows if normal(row.distribution) == CORE}
    return [
        row.short if uses[row.short] == 1 or (row.short in own and normal(row.distribution) == CORE) else row.name
        for row in rows
    ]


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

    In a command, a plugin that is not zoo's own is first imported in a process of its own, once a version.
    Raises InputError when the plugin is broken.
    """
    if is_given(component.name):
        return find_given(component.kind, component.name)
    if owns_process() and not component.is_own and component.target.partition(":")[0] not in sys.modules:
        _look_at_first(component)
    try:
        return guarded(lambda: _import(component), package=component.package)
    except PluginError as failure:
        raise _broken(component.broken(str(failure))) from failure


def _look_at_first(component: Component) -> None:
    """Raises InputError where a component's import fails, or ends the process, in a process of its own.

    All components of its module are imported together: a plugin's framework is imported once.
    """
    module = component.target.partition(":")[0]
    rows = [row for row in entries() if row.status == "ok" and row.target.partition(":")[0] == module]
    asked = [row.ask(IMPORT) for row in rows if row.distribution == component.distribution]
    for each, answer in zip(asked, answers_to(asked), strict=True):
        if answer.cause is not None and each.question.target == component.target:
            if answer.trace:
                note(answer.trace)
            raise _broken(component.broken(answer.cause))


@dataclass(frozen=True)
class Examined:
    """A component as importing it shows it: the row, marked broken with its cause where that fails, and what the import
    changes around itself, a phrase each."""

    row: Component
    changes: tuple[str, ...] = ()


def examine(rows: Iterable[Component]) -> list[Examined]:
    """Import every component: zoo's own in this process, anybody else's in another; nothing remembered counts."""
    found = list(rows)
    asked = [row.ask(IMPORT) for row in found if row.status == "ok" and not row.is_own]
    answers = dict(zip(asked, answers_to(asked, anew=True), strict=True))
    return [_examined(row, answers) for row in found]


def _examined(row: Component, answers: dict[Asked, Answer]) -> Examined:
    if row.status != "ok":
        return Examined(row)
    if not row.is_own:
        answer = answers[row.ask(IMPORT)]
        return Examined(row if answer.cause is None else row.broken(answer.cause), answer.changes)
    try:
        guarded(lambda: _import(row), package=row.package)
    except PluginError as failure:
        return Examined(row.broken(str(failure)))
    return Examined(row)


def _import(component: Component) -> Any:
    """Runs the plugin's code: call it guarded. In a command, what somebody else's changes is put back, and said."""
    if component.is_own or not owns_process():
        return import_target(component.target, component.kind)
    before = Surroundings.now()
    try:
        return import_target(component.target, component.kind)
    finally:
        for change in before.put_back(component.package):
            if not change.startswith("environment") or not change.endswith("added"):
                who = f"{component.distribution} {component.version}"
                warn(f"{who} changes the process when it is imported: {change}")


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
    if is_given(name):
        return absent(kind or "", name)
    if because := why_absent(name, kind):
        return because
    rows = components(kind)
    hint = did_you_mean(name, [row.name for row in rows]) or f"see: zoo list{f' --kind {kind}' if kind else ''}"
    if broken := sorted({row.plugin for row in rows if row.status != "ok"}):
        hint += f"; broken plugins: {', '.join(broken)}, see: zoo doctor"
    return InputError(f"no {f'{kind} ' if kind else ''}component is called {name!r}", suggestion=hint)


def why_absent(name: str, kind: str | None) -> InputError | None:
    """Why nothing is called so, where that is because the plugin of this namespace is switched off, or broken."""
    namespace = name.partition("/")[0]
    for row in all_entries():
        if row.status == "off" and namespace in (row.plugin, row.name) and kind in (None, row.kind):
            return InputError(f"{name}: the plugin {row.plugin} is {row.cause}", suggestion="see: zoo plugins")
    mine = _opened(row for row in entries() if namespace in (row.plugin, row.name))
    broken = [row for row in mine if row.status != "ok" and (kind in (None, row.kind) or row.kind not in KINDS)]
    return _broken(broken[0]) if broken else None


def _broken(component: Component) -> InputError:
    where = f"{component.distribution} {component.version} ({component.target})"
    return InputError(
        f"{component.name} is broken: {where}: {component.cause}", suggestion=f"{mend(component)}; see: zoo doctor"
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
