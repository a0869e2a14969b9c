"""Key sets of real networks, built on `meta`, for the tests of the matcher."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import pytest

from zoo.formats.entry import Entry
from zoo.model.build import build
from zoo.model.load_into import target_of

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "match_pairs.py"


@functools.cache
def architecture_entries(name: str) -> dict[str, Entry]:
    arguments = {"init_weights": False, "aux_logits": True} if name == "torchvision/inception_v3" else {}
    return dict(target_of(build(name, arguments, device="meta").model).entries)


@pytest.fixture
def key_set():
    """`key_set("timm/resnet18")`: the entries of an architecture, in the order of its state dict."""
    return architecture_entries


@pytest.fixture(scope="session")
def benchmark():
    """The benchmark's module, whose table of pairs and whose comparisons the tests use."""
    spec = importlib.util.spec_from_file_location("match_pairs", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make():
    """`make({"fc.weight": (10, 4)})`: entries, float32 but for names that end in `index` or `tracked`."""

    def entries(shapes):
        integer = ("index", "tracked")
        return {name: Entry(name, "I64" if name.endswith(integer) else "F32", shape) for name, shape in shapes.items()}

    return entries
