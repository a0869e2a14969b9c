"""Fixtures shared by all tests: plugins made of real `dist-info` folders."""

from __future__ import annotations

import compileall
import gc
import os
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# Two workers on two cores that compute with two threads each wait for each other: four times the processor time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
import yaml

from zoo import registry
from zoo.formats.entry import Entry
from zoo.formats.save import save_tensors
from zoo.isolation import owned_process
from zoo.remap.rules import Outcome, Surroundings, parse_rules, run


def pytest_configure(config):
    """Commands in processes of their own find zoo compiled, where PYTHONDONTWRITEBYTECODE is set, too: else each of
    them compiles it again, for two seconds."""
    if not hasattr(config, "workerinput"):
        for folder in ("zoo", "plugins"):
            compileall.compile_dir(Path(__file__).parents[1] / folder, quiet=2)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """A contract's test that starts another Python with torch takes seconds."""
    for item in items:
        if "fresh_process" in item.nodeid:
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish():
    """What was imported and collected stays to the end: a full collection, as memory that runs out calls for, is then
    a matter of milliseconds."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def disk_without_waiting():
    """Nobody cuts the power behind a test, so that none waits for the disk; commands in processes of their own do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


NO_TORCH = """
import sys, types

class Stub(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return object

sys.modules[__name__].__class__ = Stub
for name in ("torch.nn", "torch.nn.functional", "torch.func", "torch.optim", "torch.optim.lr_scheduler"):
    above, _, last = name.rpartition(".")
    sys.modules[name] = Stub(name)
    setattr(sys.modules[above], last, sys.modules[name])
"""


class Plugins:
    """Writes distributions into a folder that is on `sys.path`, as an installer would."""

    def __init__(self, folder):
        self.folder = folder

    def write(self, distribution, entry_points="", *, version="1.0", folder=None, **modules):
        """One distribution: `entry_points.txt` as given, and one module for each keyword."""
        folder = folder or self.folder
        info = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(textwrap.dedent(entry_points))
        for name, text in modules.items():
            (folder / f"{name}.py").write_text(textwrap.dedent(text))
        registry.refresh()

    def without_torch(self):
        """Another process that looks at these plugins imports no torch, which takes it seconds: every name in it is
        `object` there. This process has imported torch, and goes on with it."""
        (self.folder / "torch.py").write_text(NO_TORCH)

    def row(self, name):
        """The one row of this name."""
        (row,) = (row for row in registry.components() if row.name == name)
        return row


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """What earlier runs on this machine remembered (settings, features) shall not decide a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("zoo-cache")))
        patch.setenv("ZOO_CONFIG", str(tmp_path_factory.mktemp("zoo-config")))
        patch.delenv("ZOO_PLUGINS", raising=False)
        yield


@pytest.fixture
def command():
    """As inside a command of the command line, which owns its process."""
    with owned_process():
        yield


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """A folder of plugins beside the installed ones; what they import is forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield Plugins(folder)
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    monkeypatch.undo()
    registry.refresh()


BESIDE = """
    from torch import nn

    class Beside(nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base, self.narrow = base, nn.Linear(base.in_features, base.out_features, bias=False)
        def forward(self, x):
            return self.base(x) + self.narrow(x)

    def adapt(model, *, path: str = "fc1"):
        model.requires_grad_(False)  # as adapter libraries do
        model.set_submodule(path, Beside(model.get_submodule(path)))
        return model

    def merge(model, *, context, path: str = "fc1"):
        beside = model.get_submodule(path)
        beside.base.weight.data += beside.narrow.weight.data
        model.set_submodule(path, beside.base)
        context.takes_back.append("beside/adapt")
        return model

    def thaw(model):
        return model.requires_grad_(True)
"""


@pytest.fixture
def beside(plugins):
    """A plugin whose surgery `adapt` puts a layer beside another one, as libraries do, and `merge` merges it."""
    names = "".join(f"\n{name} = zoo_beside:{name}" for name in ("adapt", "merge", "thaw"))
    plugins.write("zoo-beside", f"[zoo.surgeries]{names}", zoo_beside=BESIDE)


Shapes = Mapping[str, tuple[int, ...]]


def make_entries(shapes: Shapes, dtype: str = "F32") -> dict[str, Entry]:
    return {name: Entry(name, dtype, tuple(shape)) for name, shape in shapes.items()}


@pytest.fixture
def entries() -> Callable[..., dict[str, Entry]]:
    """`entries({"fc.weight": (10, 4)})`: a source's or target's entries, float32 unless told."""
    return make_entries


@pytest.fixture
def program() -> Callable[..., Outcome]:
    """`program(yaml_text, {"a": (2, 2)}, target={…})`: what rules make of names and shapes."""

    def run_it(text: str, shapes: Shapes, *, target: Shapes | None = None, **surroundings: Any) -> Outcome:
        known = Surroundings(make_entries(target or {}), **surroundings)
        return run(parse_rules(yaml.safe_load(text)), make_entries(shapes), surroundings=known)

    return run_it


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """`write({"a": tensor}, name="x.safetensors")`: a safetensors file with these tensors."""

    def write_it(
        tensors: Mapping[str, torch.Tensor], name: str = "source.safetensors", metadata: Mapping[str, str] | None = None
    ) -> Path:
        save_tensors(tensors, tmp_path / name, metadata)
        return tmp_path / name

    return write_it


@pytest.fixture
def randomise() -> Callable[[torch.nn.Module], torch.nn.Module]:
    """Every parameter and buffer random, running statistics and counters too (variances positive)."""

    def randomise_it(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                if not tensor.is_floating_point():
                    if name.endswith("num_batches_tracked"):
                        tensor.fill_(int(torch.randint(1, 1000, (), generator=generator)))
                    continue
                values = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(values + 0.5 if name.endswith("var") else (values - 0.5) * 0.2)
        return model

    return randomise_it
