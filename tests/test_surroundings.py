"""What an import changes around itself is found; what was there is put back, what was added stays."""

import builtins
import os
import sys

import pytest
import torch

from zoo.surroundings import Surroundings, torch_names


def test_nothing_changed_is_nothing_said():
    assert Surroundings.now().put_back() == []


def test_builtins(monkeypatch):
    before, real = Surroundings.now(), builtins.len
    builtins.len = builtins.acme_added = None
    del builtins.print
    assert before.put_back() == ["builtins: print removed", "builtins: len replaced", "builtins: acme_added added"]
    assert builtins.len is real
    assert print
    del builtins.acme_added


def test_paths(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", ["/one", "/two"])
    before = Surroundings.now()
    sys.path.insert(0, str(tmp_path))
    assert before.put_back() == [f"sys.path: {tmp_path} added in front"]
    assert sys.path == ["/one", "/two", str(tmp_path)], "behind, so that what was found before is found still"
    before = Surroundings.now()
    sys.path.clear()
    assert before.put_back() == ["sys.path: entries removed or moved"]
    assert sys.path == ["/one", "/two", str(tmp_path)]


def test_the_environment_streams_and_the_current_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("ACME_KEPT", "1")
    monkeypatch.setenv("ACME_GONE", "1")
    monkeypatch.delenv("ACME_NEW", raising=False)
    before, folder, stream = Surroundings.now(), os.getcwd(), sys.stdout
    os.environ.update(ACME_KEPT="2", ACME_NEW="3")
    del os.environ["ACME_GONE"]
    os.chdir(tmp_path)
    sys.stdout = None
    assert before.put_back() == [
        "environment: ACME_GONE removed",
        "environment: ACME_KEPT replaced",
        "environment: ACME_NEW added",
        "sys: stdout replaced",
        "the current directory changed",
    ]
    assert (os.environ["ACME_KEPT"], os.environ.pop("ACME_NEW")) == ("1", "3")
    assert (os.getcwd(), sys.stdout) == (folder, stream)


def test_what_was_replaced_in_torch_is_named(monkeypatch):
    before = Surroundings.now()
    monkeypatch.setattr(torch.nn.Linear, "forward", lambda self, x: x)
    monkeypatch.setattr(torch.nn, "ReLU", torch.nn.Identity)
    assert before.put_back() == ["torch: torch.nn.Linear.forward, torch.nn.ReLU replaced"]


def test_where_torch_was_not_there_before_what_is_the_plugins_own_is_named(monkeypatch):
    before = Surroundings.now()
    object.__setattr__(before, "torch", None)
    assert before.put_back("acme") == []

    def forward(self, x):
        return x

    forward.__module__ = "acme.layers"
    monkeypatch.setattr(torch.nn.Linear, "forward", forward)
    assert before.put_back("acme") == ["torch: torch.nn.Linear.forward replaced"]


def test_settings_of_torch_count(monkeypatch):
    before = Surroundings.now()
    torch.set_default_dtype(torch.float64)
    try:
        assert "torch.get_default_dtype()" in before.put_back()[0]
    finally:
        torch.set_default_dtype(torch.float32)


def test_without_torch_there_is_nothing_to_compare(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch.nn.init")
    assert torch_names() is None


@pytest.mark.parametrize("name", ["torch.nn.Linear", "torch.nn.functional.relu", "torch.Tensor.add"])
def test_what_is_looked_at(name):
    assert name in torch_names()
