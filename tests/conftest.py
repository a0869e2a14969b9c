"""Fixtures shared by all tests: plugins made of real `dist-info` folders."""

import sys
import textwrap

import pytest

from zoo import registry
from zoo.isolation import owned_process


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

    def row(self, name):
        """The one row of this name."""
        (row,) = (row for row in registry.components() if row.name == name)
        return row


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """What earlier runs on this machine remembered (settings, features) shall not decide a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("zoo-cache")))
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
