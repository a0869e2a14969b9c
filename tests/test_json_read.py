"""JSON that somebody else wrote: a hundred thousand brackets raise RecursionError, which is no ValueError."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILES = [*ROOT.glob("zoo/**/*.py"), *ROOT.glob("plugins/*/zoo_*/**/*.py")]
OWN = {  # what is read there is zoo's own or the library's, or whoever calls catches it
    "zoo/training/processes.py",
    "zoo/data/fingerprint.py",
    "plugins/zoo-openclip/zoo_openclip/catalogue.py",
}


def unguarded(path):
    """Lines where a file parses JSON and nothing around it catches RecursionError."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.Try | ast.With) and "RecursionError" in ast.unparse(node)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("json.loads", "json.load"):
            written = any("json.dumps" in ast.unparse(argument) for argument in node.args)
            if not written and id(node) not in guarded:
                yield node.lineno


def test_every_reader_expects_deep_json():
    files = [path for path in FILES if "testing" not in path.parts and "tests" not in path.parts]
    found = {str(path.relative_to(ROOT)) for path in files if list(unguarded(path))}
    assert found == OWN
