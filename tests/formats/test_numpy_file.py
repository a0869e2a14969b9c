"""NumPy's files: arrays as they are, whatever their order; objects and bombs refused."""

import io
import zipfile

import numpy as np
import pytest
import torch
from numpy.lib import format as npy

from zoo.errors import InputError
from zoo.formats import open_source

ARRAYS = {
    "plain": np.arange(6, dtype="<f4").reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6, dtype="<f8").reshape(2, 3)),
    "swapped": np.arange(3, dtype=">i4"),
    "scalar": np.float32(3.5),
    "empty": np.zeros((0, 2), "<f2"),
    "bool": np.array([True, False]),
    "params/Transformer/kernel": np.arange(4, dtype="<u2"),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives(save, tmp_path):
    save(tmp_path / "a.npz", **ARRAYS)
    with open_source(tmp_path / "a.npz") as source:
        assert list(source.entries) == list(ARRAYS)
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(source.array(name), array)
            assert source.array(name).dtype == np.asarray(array).dtype.newbyteorder("<")
        copied = {name for name in ARRAYS if source.byte_range(name)}
        assert copied == (set(ARRAYS) - {"fortran", "swapped"} if save is np.savez else set())


def test_one_array(tmp_path):
    np.save(tmp_path / "a.npy", ARRAYS["plain"])
    source = open_source(tmp_path / "a.npy")
    assert torch.equal(source.tensor("tensor"), torch.from_numpy(ARRAYS["plain"]))


def test_jax_s_bfloat16(tmp_path):
    bits = torch.tensor([1.5, -2.0]).bfloat16().view(torch.uint16).numpy()
    np.savez(tmp_path / "a.npz", w=bits.view("V2"))
    with open_source(tmp_path / "a.npz") as source:
        assert source.tensor("w").tolist() == [1.5, -2.0]


def test_what_safetensors_cannot_hold_is_left_out_and_told(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.ones(2), words=np.array(["x"]), wide=np.ones(2, "<c16"))
    with open_source(tmp_path / "a.npz") as source:
        assert list(source.entries) == ["a"]
        assert ["'words'" in source.notes[0], "'wide'" in source.notes[1]] == [True, True]


def test_objects_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="Python objects"):
        open_source(tmp_path / "a.npz")


def test_bombs_are_refused(tmp_path):
    header = io.BytesIO()
    npy.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (2**37,)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", header.getvalue() + bytes(1 << 21))
    with pytest.raises(InputError, match="looks like a bomb"):
        open_source(tmp_path / "a.npz")


def test_arrays_cut_short(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.arange(100))
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        content = archive.read("a.npy")
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "b.npz", "w", compression) as archive:
            archive.writestr("a.npy", content[:-8])
        with pytest.raises(InputError, match=r"not as long|cut short"), open_source(tmp_path / "b.npz") as source:
            source.array("a")
    (tmp_path / "c.npy").write_bytes(content[:-8])
    with pytest.raises(InputError, match="not as long"):
        open_source(tmp_path / "c.npy")


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
        b"{",
        b"(" * 5000,
        b"",
        b"{'descr': '<f4'}",
        b"\xff",
        b"[1, 2",
    ],
)
def test_lying_headers(header, tmp_path):
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(InputError):
        open_source(tmp_path / "a.npy")
