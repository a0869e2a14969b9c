"""Private names of other people's code: each one is listed here with the reason and what happens when it goes."""

import ast
import functools
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import nn

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("zoo/**/*.py"), *ROOT.glob("plugins/*/zoo_*/**/*.py")])
STORES = "nn.Module's own tables, in order and without __getattr__: documented nowhere, read by all of torch's tools"
KINDS = "the base class of a public family (isinstance), for classes that third parties derive from it"
ALLOWED = {
    "_modules": STORES,
    "_parameters": STORES,
    "_buffers": STORES,
    "_non_persistent_buffers_set": STORES,
    "_forward_hooks": "a hook under a name of its own, which register_forward_hook cannot give",
    "_BatchNorm": KINDS,
    "_NormBase": KINDS,
    "_ConvNd": KINDS,
    "_DropoutNd": KINDS,
    "_build_vision_tower": "open_clip's image tower alone, without the text tower and its tokenizer",
    "_asdict": "documented: a named tuple's way to a dict",
    "_dynamo": "its counter of graphs, for how long compiling took; without it a report has 0 seconds",
    "_subclasses": "fake tensors, which are nowhere else; zoo.model.shapes does without them",
    "_reset_state": "accelerate's singletons refuse a second precision; its own tests use it",
    "_shared_state": "where accelerate keeps them, to put a caller's back",
    "_actions": "argparse's options, for shell completion; unchanged since Python 2.7",
    "_exit": "documented: os._exit",
}


def private(name):
    return name.startswith("_") and not name.startswith("__")


@functools.cache
def nodes(path):
    """Those that may have a private name; parsing takes longest."""
    kinds = (ast.FunctionDef, ast.ClassDef, ast.Attribute, ast.AnnAssign, ast.Import, ast.ImportFrom)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def is_of(value, *names):
    return isinstance(value, ast.Name) and value.id in names


def own_names():
    """Private names that zoo itself defines: methods, functions, attributes of self and of classes."""
    for path in SOURCES:
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield node.name
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_of(node.value, "self"):
                yield node.attr
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                yield node.target.id


def uses(path):
    """(line, name) of every private attribute and every private module that is imported."""
    for node in nodes(path):
        if isinstance(node, ast.Attribute) and private(node.attr) and not is_of(node.value, "self", "cls"):
            yield node.lineno, node.attr
        elif isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            if not (node.module or "").startswith("zoo"):
                yield from ((node.lineno, name) for name in names if private(name))
        elif isinstance(node, ast.Import):
            parts = [part for alias in node.names for part in alias.name.split(".")]
            yield from ((node.lineno, part) for part in parts if private(part))


@pytest.fixture(scope="module")
def own():
    return set(own_names()) - set(ALLOWED)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_listed_ones_are_used(path, own):
    odd = [f"{path}:{line}: {name}" for line, name in uses(path) if name not in own and name not in ALLOWED]
    assert odd == []


def test_the_list_has_no_more_than_is_used():
    assert {name for path in SOURCES for _, name in uses(path)} >= set(ALLOWED)


def test_those_without_a_fallback_are_there():
    module = nn.Module()
    assert all(
        hasattr(module, name)
        for name in ("_modules", "_parameters", "_buffers", "_non_persistent_buffers_set", "_forward_hooks")
    )
    assert issubclass(nn.BatchNorm2d, nn.modules.batchnorm._BatchNorm)
    assert issubclass(nn.InstanceNorm2d, nn.modules.batchnorm._NormBase)
    assert issubclass(nn.Conv2d, nn.modules.conv._ConvNd)
    assert issubclass(nn.Dropout2d, nn.modules.dropout._DropoutNd)
    assert all(isinstance(kind._shared_state, dict) for kind in (PartialState, AcceleratorState, GradientState))
    assert callable(AcceleratorState._reset_state)


def test_bfloat16_without_torchs_private_questions(monkeypatch):
    from zoo.training.devices import bfloat16_is_native

    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    assert bfloat16_is_native(torch.device("cpu")) is False


def test_shapes_without_fake_tensors(monkeypatch):
    """A model that keeps a plain tensor beside its parameters is then run on one small batch."""
    from zoo.model import shapes

    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 1)
            self.shift = torch.ones(4, 1, 1)

        def forward(self, image):
            return (self.layer(image) + self.shift).mean((2, 3))

    size = (2, 3, 8, 8)
    assert shapes.attempt(Shifted(), size).way == "fake"
    monkeypatch.setattr(shapes, "fake_tensor", None)
    monkeypatch.setattr(shapes, "NEEDS_VALUES", (shapes.NoFakeTensorsError,))
    done = shapes.attempt(Shifted(), size)
    assert (done.way, tuple(done.output.shape)) == ("real", (2, 4))
