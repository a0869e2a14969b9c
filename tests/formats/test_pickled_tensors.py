"""Arrays and tensors inside pickles, whoever wrote them and in whatever protocol, come out bit for bit."""

import collections
import dataclasses
import enum
import functools
import pickle
import sys
import types

import numpy as np
import pytest
import torch

from zoo.errors import InputError
from zoo.formats import open_source
from zoo.formats.pickle_reader import Global
from zoo.formats.pickled_tensors import is_allowed, is_harmful

ARRAYS = {
    "matrix": np.arange(6, dtype="f4").reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6, dtype="f8").reshape(2, 3)),
    "big endian": np.arange(4, dtype=">f4"),
    "large": np.arange(5000, dtype="f4"),
    "half": np.arange(3, dtype="f2"),
    "codes": np.arange(200, dtype="u1"),
    "flags": np.array([True, False]),
    "scalar": np.array(2.5, "f4"),
    "empty": np.zeros((0, 3), "f4"),
    "complex": np.array([1 + 2j], "c8"),
}


def equal(source, arrays):
    assert source.entries.keys() == arrays.keys()
    for name, array in arrays.items():
        assert source.array(name).dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(source.array(name), array)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_numpy_arrays_in_a_plain_pickle(protocol, tmp_path):
    path = tmp_path / "model.pkl"
    content = {"model": ARRAYS, "__author__": "torchvision", "matching_heuristics": True}
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    source = open_source(path)
    equal(source, ARRAYS)
    assert (source.byte_range("large") is None) == (protocol == 2)  # which spells bytes as text


@pytest.mark.parametrize("legacy", [False, True])
def test_numpy_arrays_in_torch_save(legacy, tmp_path):
    content = {"state_dict": ARRAYS | {"t": np.ones(2, "f4")}}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    source = open_source(tmp_path / "a.pth")
    equal(source, content["state_dict"])


@pytest.mark.parametrize("size", [3, 5000])
def test_tensors_in_a_plain_pickle(size, tmp_path, same):
    shared = torch.arange(size, dtype=torch.float32)
    state = {"a": shared, "b": shared[1:], "c": torch.ones(2, 2).bfloat16(), "tied": shared}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(state))
    source = open_source(tmp_path / "a.pkl")
    same(source, state)
    assert source.aliases == {"tied": "a"}


@pytest.mark.parametrize(
    ("array", "what"),
    [(np.array([{}], object), "Python objects"), (np.array(["x"]), "type U1"), (np.array([1 + 1j], "c16"), "type c16")],
)
def test_arrays_that_are_no_numbers_are_left_out_and_told(array, what, save):
    source = open_source(save({"w": torch.ones(2), "x": array}))
    assert list(source.entries) == ["w"]
    assert what in source.notes[0]


def test_an_array_cut_short(tmp_path):
    content = pickle.dumps({"w": np.zeros(5000, "f4")})
    place = content.index(b"\x8e") if b"\x8e" in content else content.index(b"B")
    (tmp_path / "a.pkl").write_bytes(content[: place + 100])
    with pytest.raises(InputError, match="damaged"):
        open_source(tmp_path / "a.pkl")


@pytest.fixture
def nowhere(monkeypatch):
    """A module that is there when a file is saved, and never again."""
    module = types.ModuleType("nowhere_installed")
    monkeypatch.setitem(sys.modules, "nowhere_installed", module)

    class Mode(enum.Enum):
        A = "a"

    @dataclasses.dataclass
    class Config:
        lr: float = 0.1

    class Table(dict):
        pass

    for made in (Mode, Config, Table):
        made.__module__, made.__qualname__ = "nowhere_installed", made.__name__
        setattr(module, made.__name__, made)
    return module


def beside(module):
    yield "enum", module.Mode.A, "nowhere_installed.Mode"
    yield "key of a dict", {module.Mode.A: 1}, "nowhere_installed.Mode"
    yield "dataclass", module.Config(), "nowhere_installed.Config"
    yield "dict of one's own", module.Table(a=1), "nowhere_installed.Table"
    yield "partial", functools.partial(torch.nn.LayerNorm, eps=1e-6), "functools.partial"
    yield "class", torch.nn.ReLU, "torch.nn.modules.activation.ReLU"
    yield "bound method", "text".upper, "__builtin__.getattr"
    yield "defaultdict", collections.defaultdict(list, a=[1]), None
    yield "device", torch.device("cpu"), None


def test_objects_beside_weights_are_left_out_and_listed(nowhere, save, state, same):
    for what, value, named in beside(nowhere):
        source = open_source(save({"state_dict": state, "hyper_parameters": {"x": value}}))
        same(source, state)
        note = f"left out objects beside the weights, and ran nothing of what makes them: {named}"
        assert source.notes == [] if named is None else source.notes[0].startswith(note), what


def test_weights_in_a_dict_of_ones_own_are_found(nowhere, save, state, same):
    same(open_source(save({"model": nowhere.Table(state)})), state)


def test_weights_that_only_code_would_make_are_refused(nowhere, save, state):
    with pytest.raises(InputError, match=r"names: nowhere_installed\.Config"):
        open_source(save({"model": nowhere.Config(), "mean": torch.ones(3)}))


@pytest.mark.parametrize(
    ("named", "allowed", "harmful"),
    [
        (Global("collections", "OrderedDict"), True, False),
        (Global("torch", "quint8"), True, False),
        (Global("omegaconf.dictconfig", "DictConfig"), False, False),
        (Global("__builtin__", "eval"), False, True),
        (Global("posix", "system"), False, True),
        (Global("os.path", "join"), False, True),
        (Global("builtins", "getattr"), False, False),
    ],
)
def test_what_a_checkpoint_may_name(named, allowed, harmful):
    assert (is_allowed(named), is_harmful(named)) == (allowed, harmful)
