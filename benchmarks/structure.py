"""How zoo/ is built, counted: sizes, who imports whom, import circles, long functions, modules without a test file.

python benchmarks/structure.py                              this checkout, as Markdown
python benchmarks/structure.py --rev REV                    a git revision of it
python benchmarks/structure.py --imports COMMAND...         how many files of zoo/ a zoo command imports:
python benchmarks/structure.py --imports finetune recipes/quickstart.yaml --set train.epochs=1 --output DIR
"""

import argparse
import ast
import contextlib
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
LONG = 60  # lines of a function
NAMED = re.compile(r"zoo(\.\w+)+(:\w+)?")  # "zoo.model.save:save_model": an import by name, made when it is needed
AT_IMPORT, LAZY, BY_NAME = "at import", "in functions", "by name"
CIRCLES = {
    "Import circles at import time": (AT_IMPORT,),
    "Import circles with imports in functions": (AT_IMPORT, LAZY),
    "Import circles with imports in functions and by name": (AT_IMPORT, LAZY, BY_NAME),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rev", help="a git revision instead of the files as they are")
    parser.add_argument("--imports", nargs=argparse.REMAINDER, metavar="COMMAND", help="a zoo command to run and watch")
    options = parser.parse_args()
    with revision(options.rev) if options.rev else contextlib.nullcontext(ROOT) as root:
        if options.imports:
            sys.exit(report_imports(root, options.imports))
        print(report(root))


@contextlib.contextmanager
def revision(name):
    """The files of a git revision in a temporary folder."""
    packed = subprocess.run(["git", "archive", name], cwd=ROOT, capture_output=True, check=True).stdout
    with tempfile.TemporaryDirectory(prefix="zoo-structure-") as folder:
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(folder, filter="data")
        for project in (folder, *Path(folder).glob("plugins/*/")):  # entry points are read from these
            setup = [sys.executable, "-c", "from setuptools import setup; setup()", "-q", "egg_info"]
            subprocess.run(setup, cwd=project, capture_output=True, check=True)
        yield Path(folder)


def report(root):
    """Everything that is counted, as Markdown."""
    files = {module_name(path.relative_to(root)): path for path in sorted((root / "zoo").rglob("*.py"))}
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in files.items()}
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in files.items()}
    edges = {name: edges_of(name, files, tree) for name, tree in trees.items()}
    importers = Counter(module for found in edges.values() for module in {module for module, _ in found})
    names = Counter(path.name for path in files.values() if path.name != "__init__.py")
    twice = sorted(name for name, count in names.items() if count > 1)
    circles = {title: components(graph(edges, kinds)) for title, kinds in CIRCLES.items()}
    sizes = [found for name in files for found in functions(name, trees[name])]
    long = sorted(((size, where) for size, where in sizes if size > LONG), reverse=True)
    modules = [name for name, path in files.items() if not path.stem.startswith("__")]
    untested = [name for name in modules if not has_test(root, files[name])]
    largest = max(lines, key=lines.__getitem__)
    rows = {
        "files": len(files),
        "lines": f"{sum(lines.values()):,}",
        "median lines of a file": f"{statistics.median(lines.values()):g}",
        "largest file": f"{largest}, {lines[largest]} lines",
        "files imported by exactly one other": sum(count == 1 for count in importers.values()),
        "file names that occur more than once": len(twice),
        **{title.lower(): len(found) for title, found in circles.items()},
        f"functions over {LONG} lines": len(long),
        "modules without a test file of their own": f"{len(untested)} of {len(modules)}",
    }
    table = ["| measure | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]
    parts = ["\n".join(table)]
    parts += section("File names that occur more than once", [f"{name}: {names[name]}" for name in twice])
    for title, found in circles.items():
        parts += section(title, [f"{len(circle)}: {', '.join(circle)}" for circle in found])
    parts += section(f"Functions over {LONG} lines", [f"{where}: {size}" for size, where in long])
    parts += section("Modules without a test file of their own", untested)
    return "\n\n".join(parts)


def section(title, items):
    return ["## " + title, "\n".join(f"- {item}" for item in items)] if items else []


def module_name(path):
    """`zoo.model.build` of `zoo/model/build.py`, `zoo.model` of `zoo/model/__init__.py`."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def edges_of(name, files, tree):
    """{(module, kind)} of the files of zoo/ that a file imports; imports for type checking alone are none."""
    found = set()

    def note(module, kind):
        while module not in files and "." in module:  # `from zoo.errors import InputError` names no module
            module = module.rpartition(".")[0]
        if module in files and module != name and not (kind == BY_NAME and "." not in module):  # "zoo.json" is none
            found.add((module, kind))

    def visit(node, kind):
        match node:
            case ast.If(test=ast.Name("TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                for inner in node.orelse:
                    visit(inner, kind)
                return
            case ast.Import():
                for alias in node.names:
                    note(alias.name, kind)
            case ast.ImportFrom():
                for alias in node.names:
                    note(f"{base_of(node, name, files)}.{alias.name}", kind)
            case ast.Constant(value=str(text)) if NAMED.fullmatch(text):
                note(text.partition(":")[0], BY_NAME)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.iter_child_nodes(node):
            visit(inner, LAZY if inside else kind)

    visit(tree, AT_IMPORT)
    return found


def base_of(node, name, files):
    """The package that a `from` import starts at, dots resolved."""
    if not node.level:
        return node.module
    parts = name.split(".")
    is_package = files[name].name == "__init__.py"
    up = parts[: len(parts) - node.level + is_package]
    return ".".join([*up, *([node.module] if node.module else [])])


def graph(edges, kinds):
    return {name: sorted({module for module, kind in found if kind in kinds}) for name, found in edges.items()}


def components(graph):
    """Strongly connected components of more than one module, largest first (Tarjan)."""
    index, low, stack, found = {}, {}, [], []

    def walk(name):
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                walk(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            position = stack.index(name)
            if len(stack) - position > 1:
                found.append(sorted(stack[position:]))
            del stack[position:]

    for name in graph:
        if name not in index:
            walk(name)
    return sorted(found, key=len, reverse=True)


def functions(module, tree):
    """(lines, where) of every function, decorators not counted."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.end_lineno - node.lineno + 1, f"{module}:{node.name}"


def has_test(root, path):
    """Whether `zoo/x/y.py` has its `tests/x/test_y.py`."""
    inside = path.relative_to(root / "zoo")
    return (root / "tests" / inside.parent / f"test_{inside.name}").exists()


def report_imports(root, command):
    """Run a zoo command in a fresh interpreter; say which files of zoo/ it imported. The command's exit code."""
    watch = """
import json, sys
from zoo.cli import run
code = run(sys.argv[2:])
files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
with open(sys.argv[1], "w") as file:
    json.dump(sorted(files), file)
sys.exit(code)
"""
    places = [root, *sorted(root.glob("plugins/*/"))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*map(str, places), os.environ.get("PYTHONPATH", "")])}
    with tempfile.TemporaryDirectory() as folder:
        list_of_files = Path(folder) / "files.json"
        process = [sys.executable, "-P", "-c", watch, str(list_of_files), *command]
        code = subprocess.run(process, check=False, env=environment, stdout=sys.stderr).returncode
        imported = [Path(file) for file in json.loads(list_of_files.read_text())]
    files = {path.resolve() for path in (root / "zoo").rglob("*.py")}
    count = len(files & {path.resolve() for path in imported})
    print(f"zoo {' '.join(command)}: {count} of {len(files)} files of zoo/ imported (exit code {code})")
    return code


if __name__ == "__main__":
    main()
