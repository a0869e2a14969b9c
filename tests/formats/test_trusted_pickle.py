"""A file whose code is run because its user says so: in a process of its own, and nothing is left of it."""

import hashlib
import logging
import sys
import tempfile
import types

import pytest
import torch
from torch import nn

from zoo.errors import InputError
from zoo.formats import open_source


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_whole_model_becomes_its_state_dict(save, same, caplog, temporary):
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    path = save(model)
    with caplog.at_level(logging.WARNING, "zoo"), open_source(path, trust_pickle=True) as source:
        same(source, model.state_dict())
        assert source.files == (path,)
        assert source.sha256() == hashlib.sha256(path.read_bytes()).hexdigest()
        assert "was run" in source.kind
        assert any("ran the code" in note for note in source.notes)
    assert "running the code" in caplog.text
    assert not list(temporary.iterdir())


def test_a_model_inside_a_checkpoint(save, same):
    model = nn.Linear(3, 2)
    with open_source(save({"model": model, "epoch": 3}), trust_pickle=True) as source:
        same(source, model.state_dict())


def test_a_safe_file_is_not_run_even_when_trusted(save, state, same, caplog):
    same(open_source(save(state), trust_pickle=True), state)
    assert not caplog.text


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code:UserWarning")  # legacy files keep a class's source
def test_classes_that_are_not_there(save, temporary, monkeypatch):
    gone = types.ModuleType("gone")
    gone.Net = type("Net", (nn.Linear,), {"__module__": "gone"})
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "gone", gone)
        path = save(gone.Net(2, 2))
    with pytest.raises(InputError, match=r"cannot unpickle .*No module named 'gone'"):
        open_source(path, trust_pickle=True)
    assert not list(temporary.iterdir())


def test_nothing_is_left_when_there_are_no_tensors(save, temporary):
    with pytest.raises(InputError, match="contains no tensors"):
        open_source(save({"a": torch.nn.ReLU()}), trust_pickle=True)
    assert not list(temporary.iterdir())
