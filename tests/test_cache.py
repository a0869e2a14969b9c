"""The cache folder on each system, and torch.hub's as torch itself has it."""

from pathlib import Path

import pytest
import torch.hub

from zoo.cache import cache_folder, weights_folder
from zoo.cli.doctor import caches
from zoo.training.autotune import TimingCache
from zoo.training.trunk.store import FeatureCache


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    for name in ("ZOO_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("system", "below"),
    [
        ("linux", (".cache", "zoo")),
        ("darwin", ("Library", "Caches", "zoo")),
        ("win32", ("AppData", "Local", "zoo", "Cache")),
    ],
)
def test_each_system_has_its_place(monkeypatch, bare, system, below):
    monkeypatch.setattr("sys.platform", system)
    assert cache_folder() == bare.joinpath(*below)


@pytest.mark.parametrize(("system", "variable"), [("linux", "XDG_CACHE_HOME"), ("win32", "LOCALAPPDATA")])
def test_the_systems_own_variable_moves_it(monkeypatch, bare, system, variable):
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setenv(variable, str(bare / "elsewhere"))
    assert bare / "elsewhere" in cache_folder().parents


def test_zoo_cache_goes_over_everything(monkeypatch, bare):
    monkeypatch.setenv("XDG_CACHE_HOME", str(bare / "elsewhere"))
    monkeypatch.setenv("ZOO_CACHE", "~/mine")
    assert cache_folder() == bare / "mine"


@pytest.mark.parametrize("variable", [None, "TORCH_HOME", "XDG_CACHE_HOME"])
def test_weights_lie_where_torch_hub_puts_them(monkeypatch, bare, variable):
    if variable:
        monkeypatch.setenv(variable, str(bare / "there"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    assert weights_folder() == Path(torch.hub.get_dir()) / "checkpoints"


def test_all_caches_lie_in_it_and_doctor_shows_it(monkeypatch, bare):
    monkeypatch.setenv("ZOO_CACHE", str(bare / "mine"))
    assert FeatureCache().root == bare / "mine" / "features"
    assert TimingCache(None, "key").path == bare / "mine" / "timings" / "key.json"
    assert caches()["zoo's cache"] == bare / "mine"
    assert caches()["downloaded weights"] == weights_folder()
