"""docs/export.md: the consumer's script runs where there is no torch, and answers as zoo does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import zoo

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in ALLOWED and name.partition(".")[0] in INSTALLED:
            raise ModuleNotFoundError(name)
import importlib.metadata
INSTALLED = set(importlib.metadata.packages_distributions()) | {"torch", "zoo"}
ALLOWED = {"onnxruntime", "numpy", "PIL", "flatbuffers", "google", "coloredlogs", "packaging", "sympy", "mpmath"}
sys.meta_path.insert(0, Blocked())
"""


def script():
    (found,) = re.findall(r"<!-- consumer -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    return found


def test_the_script_imports_three_packages():
    names = set(re.findall(r"^(?:import|from) (\w+)", script(), re.MULTILINE))
    assert names - set(sys.stdlib_module_names) == {"numpy", "onnxruntime", "PIL"}


@pytest.mark.slow
def test_it_answers_as_zoo_without_torch(checkpoint, photos, tmp_path):
    zoo.export(checkpoint, tmp_path / "m.onnx", preprocess=True, softmax=True, data=photos)
    (tmp_path / "consumer.py").write_text(f"{BLOCKED}\n{script()}\nassert 'torch' not in sys.modules\n")
    images = sorted(map(str, photos.rglob("*.png")))
    command = [sys.executable, "-P", str(tmp_path / "consumer.py"), str(tmp_path / "m.onnx"), *images]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    expected = [(row["image"], row["predictions"][0]["label"]) for row in zoo.predict(checkpoint, images, top=1)]
    assert [tuple(line.split("\t")[:2]) for line in done.stdout.splitlines()] == expected
    refused = [sys.executable, "-P", "-c", f"{BLOCKED}\nimport torch"]
    assert b"ModuleNotFoundError" in subprocess.run(refused, capture_output=True, check=False).stderr
