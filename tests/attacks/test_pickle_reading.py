"""Pickles that run code, lie about their tensors or never end: nothing runs, whatever instruction asks for it."""

import io
import os
import pickle
import struct

import pytest
import torch

from zoo.errors import InputError
from zoo.formats import open_source

WITNESS = "ran"


def short(word):
    return b"X" + struct.pack("<I", len(word)) + word.encode()


MKDIR = b"cposix\nmkdir\n"
ATTACKS = {
    "REDUCE": MKDIR + short(WITNESS) + b"\x85R",
    "INST": b"(" + short(WITNESS) + b"iposix\nmkdir\n",
    "OBJ": b"(" + MKDIR + short(WITNESS) + b"o",
    "NEWOBJ": MKDIR + short(WITNESS) + b"\x85\x81",
    "NEWOBJ_EX": MKDIR + short(WITNESS) + b"\x85}\x92",
    "STACK_GLOBAL": short("posix") + short("mkdir") + b"\x93" + short(WITNESS) + b"\x85R",
    "through getattr": b"cbuiltins\ngetattr\ncos\npath\n" + short("os") + b"\x86R" + short(WITNESS) + b"\x85R",
    "eval": b"cbuiltins\neval\n" + short(f"__import__('os').mkdir('{WITNESS}')") + b"\x85R",
    "a dtype's name": b"cnumpy\ndtype\n" + short(f"os.mkdir('{WITNESS}')") + b"\x85R",
    "an encoding": b"c_codecs\nencode\n" + short("x") + short("os.mkdir") + b"\x86R",
    "the state of an object": b"cnowhere\nThing\n)\x81}" + short("__setstate__") + MKDIR + b"sb",
    "the type of a tensor": b"ctorch._tensor\n_rebuild_from_type_v2\n(" + MKDIR + b"NN)tR",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_instruction_runs_anything(attack, pth, ends, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    opened = ends(lambda: open_source(pth(x=ATTACKS[attack])))
    assert not os.path.exists(WITNESS)
    if "mkdir" in ATTACKS[attack].decode("latin-1") and "posix" in ATTACKS[attack].decode("latin-1"):
        assert isinstance(opened, InputError)


def test_the_attack_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(b"\x80\x02" + ATTACKS["REDUCE"] + b".")
    assert os.path.exists(WITNESS)


BOMBS = {
    "one list copied 4,000 times": b"]("
    + b"K\x01" * 50_000
    + b"eq\x01]("
    + b"cbuiltins\ntuple\nh\x01\x85R" * 4000
    + b"e",
    "one tuple as arguments": b"(" + b"K\x01" * 50_000 + b"tq\x01](" + b"c_\nA\nh\x01R" * 4000 + b"e",
    "... and keywords": b"(" + b"K\x01" * 50_000 + b"tq\x01](" + b"c_\nA\nh\x01}\x92" * 4000 + b"e",
    "lists of lists": b"]q\x010" + b"".join(b"](" + b"h\x01" * 50 + b"eq\x010" for _ in range(500)) + b"h\x01",
    "a hundred thousand empty dicts": b"](" + b"}" * 100_000 + b"e",
    "a number of 20,000 digits": b"\x8b" + struct.pack("<i", 8000) + b"\x01" * 8000,
    "a memo far away": b"Nr\xff\xff\xff\x7f",
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("place", ["value", "key"])
def test_bombs_end(bomb, place, pth, ends):
    ends(lambda: open_source(pth(x=BOMBS[bomb] if place == "value" else b"}" + BOMBS[bomb] + b"Ns")))


def test_a_storage_inside_a_storage_is_not_followed(tmp_path, ends):
    inner = pickle.dumps(torch.ones(3))
    for _ in range(3):
        inner = b"\x80\x04ctorch.storage\n_load_from_bytes\nB" + struct.pack("<I", len(inner)) + inner + b"\x85R."
    (tmp_path / "a.pkl").write_bytes(inner)
    assert isinstance(ends(lambda: open_source(tmp_path / "a.pkl")), InputError)


def test_an_array_that_says_it_is_larger_than_its_bytes(tmp_path, ends):
    import numpy as np

    content = pickle.dumps({"w": np.zeros(4, "f4")}, protocol=4)
    (tmp_path / "a.pkl").write_bytes(content.replace(b"K\x01K\x04\x85", b"K\x01K\x7f\x85"))
    assert "where its shape needs" in str(ends(lambda: open_source(tmp_path / "a.pkl")))


def test_a_pickle_behind_another_is_not_read(tmp_path, ends):
    file = io.BytesIO()
    torch.save({"a": torch.ones(2)}, file, _use_new_zipfile_serialization=False)
    (tmp_path / "a.pth").write_bytes(file.getvalue() + b"\x80\x02" + ATTACKS["REDUCE"] + b".")
    assert list(ends(lambda: open_source(tmp_path / "a.pth")).entries) == ["a"]
