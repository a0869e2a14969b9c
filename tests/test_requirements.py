"""What is imported is declared: a distribution that comes along with another one today may not come tomorrow."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECTS = sorted([ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")])
DISTRIBUTIONS = packages_distributions()


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements):
    return {canonical(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements}


def imported(package):
    """(file, line, top-level name, whether it waits in a function) of every import that is neither Python's nor the
    package's own."""
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {package.name}:
                yield path.relative_to(ROOT), node.lineno, name, node.col_offset > 0


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.parent.name)
def test_every_import_is_of_a_declared_requirement(project):
    table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    core = project.parent == ROOT
    known = declared(table["dependencies"])
    extras = table.get("optional-dependencies", {})
    known |= {name for extra in extras.keys() - {"test", "bench"} for name in declared(extras[extra])}
    for_tests = known | declared(table["optional-dependencies"]["test"] if core else [])
    (package,) = [ROOT / "zoo"] if core else [file.parent for file in project.parent.glob("zoo_*/__init__.py")]
    found = list(imported(package))
    assert found
    missing = []
    extras = table.get("optional-dependencies", {}).items()
    with_extras = known.union(*(declared(lines) for extra, lines in extras if extra not in ("test", "bench")))
    for path, line, name, waits in found:
        allowed = for_tests if "testing" in path.parts else known  # the helpers for plugins' tests run in tests
        allowed = allowed | with_extras if waits else allowed  # what it needs is asked for first, with the extra's name
        if not allowed & {canonical(one) for one in DISTRIBUTIONS.get(name, [name])}:
            missing.append(f"{path}:{line}: {name}")
    assert missing == []
