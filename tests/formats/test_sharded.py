"""Sharded checkpoints: read as one, and no name in an index reaches a file outside the index's folder."""

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from zoo.errors import InputError
from zoo.formats import open_source


@pytest.fixture
def shards(state, tmp_path):
    """Writes the state dict in two shards with an index; returns a function that writes the index anew."""
    names = list(state)
    parts = {"model-1.safetensors": names[:4], "model-2.safetensors": names[4:]}
    for file, part in parts.items():
        save_file({name: state[name] for name in part}, tmp_path / file, {"format": "pt"})
    weight_map = {name: file for file, part in parts.items() for name in part}

    def index(**changes):
        path = tmp_path / "model.safetensors.index.json"
        path.write_text(json.dumps({"metadata": {}, "weight_map": {**weight_map, **changes}}))
        return path

    return index


def test_shards_are_one_source(shards, state, same, tmp_path):
    path = shards()
    source = open_source(path)
    same(source, {name: state[name] for file in ("1", "2") for name in _held(tmp_path / f"model-{file}.safetensors")})
    assert source.metadata == {"format": "pt"}
    assert source.kind == "sharded checkpoint (2 files)"
    assert [file.name for file in source.files] == ["model-1.safetensors", "model-2.safetensors"]


def _held(path):
    return list(open_source(path).entries)


def test_a_folder_means_its_index(shards, tmp_path):
    shards()
    assert open_source(tmp_path).kind.startswith("sharded")


def test_shards_of_torch_files(state, same, tmp_path):
    names = list(state)
    torch.save(
        {name: state[name].t() if state[name].ndim == 2 else state[name] for name in names[:5]}, tmp_path / "a.bin"
    )
    torch.save(
        {name: state[name].t() if state[name].ndim == 2 else state[name] for name in names[5:]}, tmp_path / "b.bin"
    )
    weight_map = {name: "a.bin" if position < 5 else "b.bin" for position, name in enumerate(names)}
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    same(open_source(index), {name: value.t() if value.ndim == 2 else value for name, value in state.items()})


@pytest.mark.parametrize(
    "name",
    ["../model-1.safetensors", "/etc/passwd", "sub/model-1.safetensors", "..", "", "a\\b", "a\0b", ".", "C:a", "NUL"],
)
def test_names_that_lead_elsewhere_are_refused(name, shards):
    with pytest.raises(InputError, match="plain file name"):
        open_source(shards(**{"0.weight": name}))


def test_links_out_of_the_folder_are_refused(shards, state, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    index = shards()
    os.rename(tmp_path / "model-2.safetensors", outside / "secret")
    (tmp_path / "model-2.safetensors").symlink_to(outside / "secret")
    with pytest.raises(InputError, match="symbolic link"):
        open_source(index)


def test_links_as_the_hub_s_cache_makes_them_are_followed(shards, state, tmp_path):
    snapshot, blobs = tmp_path / "snapshots" / "abc", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    shards()
    for number, name in enumerate(["model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors"]):
        os.rename(tmp_path / name, blobs / str(number))
        (snapshot / name).symlink_to(f"../../blobs/{number}")
    assert set(open_source(snapshot).entries) == set(state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"0.weight": "model-2.safetensors"}, "says that '0.weight' is in model-2.safetensors, but it is not"),
        ({"more": "model-1.safetensors"}, "says that 'more' is in"),
        ({"0.weight": "model-3.safetensors"}, "missing .did you mean model-"),
    ],
)
def test_an_index_that_disagrees(changes, message, shards):
    with pytest.raises(InputError, match=message):
        open_source(shards(**changes))


def test_a_tensor_in_two_shards(shards, state, tmp_path):
    index = shards()
    save_file({"0.weight": state["0.weight"]}, tmp_path / "model-3.safetensors")
    with pytest.raises(InputError, match="is in two shards"):
        open_source(shards(extra="model-3.safetensors") if index else None)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"weight_map": {}}', '{"weight_map": {"a": 1}}', "[" * 100_000])
def test_no_index_at_all(content, tmp_path):
    path = tmp_path / "x.index.json"
    path.write_text(content)
    with pytest.raises(InputError):
        open_source(path)
