"""Dependencies point one way: the floors are written here, and every import in zoo/ is held against them."""

import ast
import functools
import re
import sys
from pathlib import Path

import pytest
import timm
import torch

from zoo import registry
from zoo.conversion.convert import convert
from zoo.isolation import guarded

ROOT = Path(__file__).parent.parent
# Each floor may import from those above it in this list and from itself; on one floor, its rooms from each other.
FLOORS = [
    {"zoo.errors", "zoo.contracts", "zoo.isolation", "zoo.file_name", "zoo.cache", "zoo.given", "zoo.expressions"},
    {"zoo.surroundings", "zoo.plugin_process", "zoo.plugin_memory", "zoo.plugin_switches"},
    {"zoo.installed"},
    {"zoo.registry", "zoo.plugin_calls"},
    {"zoo.scaffolding"},
    {"zoo.formats"},
    {"zoo.remap"},
    {"zoo.recipe"},
    {"zoo.model"},
    {"zoo.lint"},
    {"zoo.checkpoint"},
    {"zoo.data"},
    {"zoo.training"},
    {"zoo.steps"},
    {"zoo.preflight"},
    {"zoo.finetuning", "zoo.reporting", "zoo.conversion", "zoo.comparison", "zoo.verification", "zoo.exporting"},
    {"zoo.cli", "zoo.api", "zoo.verbs", "zoo.testing", "zoo.__main__"},
]
LEVEL = {room: level for level, floor in enumerate(FLOORS) for room in floor}
FILES = sorted((ROOT / "zoo").rglob("*.py"))


@functools.cache
def imports(path, *, lazy=True):
    return tuple(_imports(path, lazy=lazy))


def _imports(path, *, lazy):
    """(line, module) of every import of zoo's in a file but for those of type checking; without `lazy`, only those
    that run when the file is imported."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING")
        or (not lazy and isinstance(node, ast.FunctionDef | ast.Lambda))
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name.startswith("zoo"))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            if node.module == "zoo" or node.module.startswith("zoo."):
                for alias in node.names:
                    name = f"{node.module}.{alias.name}"
                    yield node.lineno, name if name in MODULES else node.module


def room(module):
    """`zoo.model` of `zoo.model.build`."""
    return ".".join(module.split(".")[:2])


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_import_leads_up(path):
    own = room(module_of(path))
    if own == "zoo":
        return  # the package itself only names its verbs
    for line, module in imports(path):
        assert LEVEL[room(module)] <= LEVEL[own], (
            f"{path.relative_to(ROOT)}:{line}: {own} may not import {module}, which stands on a lower floor"
        )


def test_every_room_has_a_floor():
    assert {room(module) for module in MODULES} - {"zoo"} == set(LEVEL)


@pytest.mark.parametrize("lazy", [False, True], ids=["at import", "lazy ones too"])
def test_no_modules_import_each_other_in_a_circle(lazy):
    edges = {
        module: {other for _, other in imports(path, lazy=lazy) if other != module and other in MODULES}
        for module, path in MODULES.items()
        if module != "zoo"
    }
    # take away what imports nothing of the rest, and what nothing of the rest imports, until only circles are left
    while loose := {m for m in edges if not edges[m] & edges.keys() or all(m not in n for n in edges.values())}:
        edges = {module: needed for module, needed in edges.items() if module not in loose}
    assert not edges, "\n".join(f"{module} -> {', '.join(sorted(edges[module] & edges.keys()))}" for module in edges)


def test_plans_are_made_without_reading_files_or_models():
    for module, path in MODULES.items():
        if module.startswith(("zoo.remap.rules", "zoo.remap.plan", "zoo.remap.expression", "zoo.remap.auto")):
            found = [name for _, name in imports(path) if name in ("zoo.formats.open_source", "zoo.formats.files")]
            assert not found, f"{path.relative_to(ROOT)} imports {found}"


def test_the_core_imports_no_plugin():
    plugins = {path.name for path in ROOT.glob("plugins/*/zoo_*") if (path / "__init__.py").exists()}
    assert len(plugins) >= 5
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.partition(".")[0] in plugins], path


@pytest.mark.parametrize("path", sorted(ROOT.glob("plugins/*/zoo_*/**/*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_plugins_import_the_api_and_errors_only(path):
    own = path.relative_to(ROOT).parts[2]
    for line, module in imports(path):
        allowed = module in ("zoo.api", "zoo.errors") or module.partition(".")[0] == own
        assert allowed, f"{path.relative_to(ROOT)}:{line} imports {module}"


def calls_up(work):
    """(caller, called) of every call, while `work` runs, from a function to one on a later floor of the list.

    Left out are lambdas and generators, which hand values down where they are written, and the plugins' facade.
    """
    found = set()

    def in_zoo(frame):
        name = frame.f_code.co_filename
        return name.startswith(str(ROOT / "zoo")) and room(module_of(Path(name))) in LEVEL.keys() - {"zoo.api"}

    def watch(frame, event, _):
        if event != "call" or frame.f_code.co_name.startswith("<") or not in_zoo(frame):
            return
        caller = frame.f_back
        while caller and not in_zoo(caller):
            caller = caller.f_back
        if caller:
            ends = [(room(module_of(Path(at.f_code.co_filename))), at.f_code.co_qualname) for at in (caller, frame)]
            if LEVEL[ends[1][0]] > LEVEL[ends[0][0]]:
                found.add(tuple(".".join(end) for end in ends))

    sys.setprofile(watch)
    try:
        work()
    finally:
        sys.setprofile(None)
    return found


def test_a_call_up_is_found():
    assert calls_up(lambda: guarded(registry.names)) == {("zoo.isolation.guarded", "zoo.registry.names")}


@pytest.mark.slow
def test_no_call_of_a_conversion_leads_back_up(tmp_path):
    """Matched, proved, verified and written: no function that was handed down calls its way back."""
    state = timm.create_model("test_resnet").state_dict()
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "a.pth")
    ends = {"from_": "timm/test_resnet", "to": "timm/test_resnet"}
    found = calls_up(lambda: convert(tmp_path / "a.pth", tmp_path / "b.safetensors", "auto", verify=True, **ends))
    assert found == set()
    assert (tmp_path / "b.safetensors").exists()


def test_the_page_of_architecture_names_what_is_there():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.py)(?::(\w+))?", page)
    assert len(named) > 30
    for file, name in named:
        path = ROOT / file if (ROOT / file).exists() else ROOT / "zoo" / file
        if not path.exists():  # a file of the folder that the section is about, or one named beside its folder
            (path,) = (ROOT / "zoo").rglob(file)
        defined = {node.name for node in ast.walk(ast.parse(path.read_text())) if hasattr(node, "name")}
        assert not name or name in defined, f"docs/architecture.md names {file}:{name}"
