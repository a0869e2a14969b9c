"""What must be quick imports no torch: each case runs in a fresh interpreter."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.cli import COMMANDS

ROOT = Path(__file__).parent.parent
FREE = ("errors", "contracts", "isolation", "registry", "api", "recipe", "cli")
FREE_IN_FORMATS_AND_REMAP = (
    "formats/safetensors_file",
    "formats/open_source",
    "remap/rules",
    "remap/plan",
    "conversion/stream",
)


def modules_under(*paths):
    for path in paths:
        file = path.with_suffix(".py")
        for found in [file] if file.exists() else path.rglob("*.py"):
            yield ".".join(found.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def heavy_after(*statements, heavy=("torch",)):
    """Which `heavy` modules are there after each statement: {statement: [modules]} for those with any."""
    code = f"""
import contextlib, io, json, sys
found = {{}}
for statement in {list(statements)!r}:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        exec(statement)
    if there := [name for name in {heavy!r} if name in sys.modules]:
        found[statement] = there
        break
print(json.dumps(found))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_modules_import_no_torch():
    names = list(modules_under(*(ROOT / "zoo" / name for name in FREE)))
    names += modules_under(*(ROOT / "zoo" / name for name in FREE_IN_FORMATS_AND_REMAP))
    assert len(names) > 40
    assert heavy_after("import zoo", *(f"import {name}" for name in names)) == {}


def test_plugins_import_no_torch():
    plugins = [path.parent.name for path in ROOT.glob("plugins/*/zoo_*/__init__.py")]
    assert len(plugins) == 6
    assert heavy_after(*(f"import {name}" for name in plugins), heavy=("torch", "timm", "torchvision", "sklearn")) == {}


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["--version"],
        ["list"],
        ["list", "resnet"],
        ["list", "--json"],
        ["list", "--weights"],
        ["show", "zoo/swap_head"],
        ["show", "torchvision/CIFAR10"],
        ["show", "zoo/below", "--json"],
        ["finetunes"],
    ],
    ids=" ".join,
)
def test_commands_run_without_torch(arguments):
    assert heavy_after(f"from zoo.cli import run; run({arguments!r})") == {}


def test_no_help_imports_torch():
    assert heavy_after(*(f"from zoo.cli import run; run([{name!r}, '--help'])" for name in COMMANDS)) == {}


def test_listing_imports_no_framework_at_all():
    heavy = ("torch", "timm", "torchvision", "numpy", "pydantic", "typer", "rich", "click", "yaml", "asyncio")
    assert heavy_after("from zoo.cli import run; run(['list'])", heavy=heavy) == {}


def test_tags_are_told_without_torch():
    statement = (
        "from zoo import registry; from zoo.cli.show import read; assert read(registry.resolve({!r}, None))['tags']"
    )
    assert heavy_after(statement.format("timm/resnet50"), statement.format("torchvision/vit_b_16")) == {}
