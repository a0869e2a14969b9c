"""What benchmarks/structure.py counts, on a made-up tree."""

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "benchmarks/structure.py"
TREE = {
    "zoo/__init__.py": "",
    "zoo/a.py": "from typing import TYPE_CHECKING\nimport zoo.b\nif TYPE_CHECKING:\n    from zoo import d\n",
    "zoo/b.py": "def late():\n    from zoo.a import x\n",
    "zoo/c/a.py": "HELPER = 'zoo.d:helper'\n",
    "zoo/d.py": "from .c.a import HELPER\ndef long():\n" + "    pass\n" * 61,
    "tests/c/test_a.py": "",
}
TABLE = """\
| files | 5 |
| lines | 70 |
| median lines of a file | 2 |
| largest file | zoo.d, 63 lines |
| files imported by exactly one other | 4 |
| file names that occur more than once | 1 |
| import circles at import time | 0 |
| import circles with imports in functions | 1 |
| import circles with imports in functions and by name | 2 |
| functions over 60 lines | 1 |
| modules without a test file of their own | 3 of 4 |
"""


@pytest.fixture
def structure():
    spec = spec_from_file_location("structure", SCRIPT)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_counts(structure, tmp_path):
    for name, text in TREE.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    report = structure.report(tmp_path)
    assert TABLE in report
    assert "- 2: zoo.a, zoo.b\n" in report
    assert "- 2: zoo.c.a, zoo.d\n" in report
    assert "- zoo.d:long: 62\n" in report
    assert report.endswith("- zoo.a\n- zoo.b\n- zoo.d")


def test_imports_of_a_command_are_counted(tmp_path):
    command = [sys.executable, SCRIPT, "--imports", "--version"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    count, _, of = done.stdout.removeprefix("zoo --version: ").partition(" of ")
    assert 0 < int(count) < 20
    assert of.endswith("files of zoo/ imported (exit code 0)\n")
    assert "zoo " in done.stderr
