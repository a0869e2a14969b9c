"""`zoo new plugin`: what it writes is whole, installs, passes its own tests, and takes the place of nothing."""

import errno
import inspect
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from zoo.errors import InputError, WorkError
from zoo.registry import KINDS
from zoo.scaffolding import plugin as module
from zoo.scaffolding.plugin import EXAMPLES, distribution_name, files_of, parts_of, write_plugin
from zoo.testing import CONTRACTS

QUICK = {"its_entry_point_resolves", "it_is_documented", "its_parameters_are_annotated", "its_signature_is_a_schema"}


def test_every_kind_has_an_example():
    assert set(EXAMPLES) == set(KINDS) == set(CONTRACTS)


def test_it_is_a_whole_package(tmp_path):
    folder = write_plugin("acme", list(EXAMPLES), tmp_path / "code/zoo-acme")
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    groups = project["project"]["entry-points"]
    assert set(groups) == {f"zoo.{kind}" for kind in KINDS}
    assert project["project"]["name"] == "zoo-acme"
    for points in groups.values():
        for target in points.values():
            path, attribute = target.split(":")
            assert attribute in (folder / f"{path.replace('.', '/')}.py").read_text()
    written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"README.md", "LICENSE", ".gitignore", ".github/workflows/tests.yml", "zoo_acme/py.typed"} < written
    assert "$" not in "".join((folder / name).read_text() for name in written - {".github/workflows/tests.yml"})
    assert [path.name for path in folder.parent.iterdir()] == ["zoo-acme"], "nothing beside it"


@pytest.mark.parametrize("kind", EXAMPLES)
def test_each_example_keeps_its_contract(plugins, tmp_path, kind):
    code, tests, _ = parts_of(kind, "acme")
    name, attribute = EXAMPLES[kind]
    if kind not in ("surgeries", "optimizers"):  # these use torch as they are imported, which takes seconds
        plugins.without_torch()
    plugins.write("zoo-acme", f"[zoo.{kind}]\n{name} = acme_new_{kind}:{attribute}", **{f"acme_new_{kind}": code})
    namespace = {}
    exec(compile(tests, kind, "exec"), namespace)  # what the package's own test file says
    (contract,) = [value for name, value in namespace.items() if name.startswith("Test")]
    for name in QUICK:
        getattr(contract(), f"test_{name}")()
    check = contract().test_it_works_under_zoo_check
    check(*([tmp_path] if "tmp_path" in inspect.signature(check).parameters else []))


def test_nothing_is_overwritten_and_nothing_left_behind(tmp_path, monkeypatch):
    folder = tmp_path / "zoo-acme"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"is there already: nothing is overwritten \(another folder: --output\)"):
        write_plugin("acme", ["surgeries"], folder)
    monkeypatch.setattr(module, "files_of", lambda *_: {"a.txt": "a", "b.txt": None})
    with pytest.raises(TypeError):
        write_plugin("acme", ["surgeries"], tmp_path / "other")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["zoo-acme", "zoo-acme/mine.txt"]


@pytest.mark.parametrize("name", ["acme", "zoo-acme", "Zoo_Acme", "ACME"])
def test_a_plugin_is_called_after_its_distribution(name):
    assert distribution_name(name) == "zoo-acme"


@pytest.mark.parametrize("name", ["", "../acme", "a/b", "1st", "acme!", "zoo-", "kit", "zoo", "timm", "sklearn"])
def test_names_that_no_plugin_can_have(name):
    with pytest.raises(InputError, match=r"cannot name a plugin|zoo's own name|is installed already"):
        distribution_name(name)


def test_a_kind_that_is_none():
    with pytest.raises(InputError, match=r"no kind 'surgery' \(did you mean surgeries"):
        files_of("zoo-acme", ["surgery"])


@pytest.mark.slow
def test_it_installs_passes_its_own_tests_and_is_listed_at_once(tmp_path):
    folder, site = write_plugin("acme", list(EXAMPLES), tmp_path / "zoo-acme"), tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--no-build-isolation", "--target", str(site)]
    subprocess.run([*pip, str(folder)], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *filter(None, sys.path)])}

    def python(*arguments):
        command = [sys.executable, *arguments]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    listed = python("-m", "zoo", "list", "--plugin", "acme").stdout.split()
    assert sorted(listed) == sorted(f"acme/{name}" for name, _ in EXAMPLES.values())
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(folder / "tests"))
    assert done.returncode == 0, done.stdout


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(WorkError, match=rf"{tmp_path}/acme was not written: No space left on device"):
        write_plugin("acme", ["surgeries"], tmp_path / "acme")
    assert list(tmp_path.iterdir()) == []
