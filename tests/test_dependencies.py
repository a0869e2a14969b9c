"""Dependencies point one way: who may import whom is written here, and every import in zoo/ is held against it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# the words for mistakes and for options, and what may name a file; they import nothing of zoo's
ANYONE = {"zoo.errors", "zoo.file_name", "zoo.recipe.steps"}
LOWER = {"zoo.api", "zoo.registry", "zoo.isolation"}
ALLOWED = {
    "zoo.errors": set(),
    "zoo.file_name": set(),
    "zoo.isolation": set(),
    "zoo.api": {"zoo.model"},  # by name, when a plugin first asks for a helper
    "zoo.installed": set(),
    "zoo.registry": {"zoo.installed", "zoo.isolation"},
    "zoo.definition": {"zoo.registry"},
    "zoo.recipe": LOWER,
    "zoo.checkpoint": LOWER,
    "zoo.data": LOWER,
    "zoo.model": LOWER | {"zoo.checkpoint"},
    "zoo.training": LOWER | {"zoo.model", "zoo.data", "zoo.checkpoint", "zoo.recipe"},
    "zoo.report": LOWER | {"zoo.training"},
    "zoo.verbs": {"zoo.model", "zoo.checkpoint"},
    "zoo.testing": LOWER | {"zoo.model", "zoo.checkpoint"},
    "zoo.cli": LOWER
    | {"zoo.definition", "zoo.report", "zoo.training", "zoo.data", "zoo.model", "zoo.checkpoint", "zoo.recipe"},
    "zoo.__main__": {"zoo.cli"},
}
PLANS = ("rules", "plan", "moves", "operations")  # of zoo.checkpoint: decided on names and shapes alone
FILES = sorted((ROOT / "zoo").rglob("*.py"))


def imports(path):
    """(line, module) of every import of zoo's in a file, wherever it stands, but for those of type checking."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name.startswith("zoo"))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            if node.module == "zoo":
                yield from ((node.lineno, f"zoo.{alias.name}") for alias in node.names)
            elif node.module.startswith("zoo"):
                yield node.lineno, node.module


def part(module):
    """`zoo.model` of `zoo.model.build`."""
    return ".".join(module.split(".")[:2])


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_import_is_allowed(path):
    own = part(module_of(path))
    if own == "zoo":
        return  # the package itself only names its verbs
    for line, module in imports(path):
        allowed = module in ANYONE or part(module) == own or part(module) in ALLOWED[own]
        assert allowed, f"{path.relative_to(ROOT)}:{line}: {own} may not import {module}"


def test_what_anyone_may_import_imports_nothing_of_zoos():
    for module in ANYONE:
        assert not list(imports(ROOT / f"{module.replace('.', '/')}.py"))


@pytest.mark.parametrize("name", PLANS)
def test_plans_are_made_without_reading_files_or_models(name):
    folder = ROOT / "zoo/checkpoint"
    paths = [folder / f"{name}.py", *folder.glob(f"{name}/*.py")]
    reading = ("zoo.checkpoint.sources", "zoo.checkpoint.stream", "zoo.checkpoint.load")
    for path in filter(Path.exists, paths):
        found = [module for _, module in imports(path) if module.startswith(reading)]
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
