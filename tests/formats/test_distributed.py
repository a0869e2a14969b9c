"""Folders of torch.distributed.checkpoint are read bit for bit as torch reads them, without its pickle being run."""

import pickle
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from zoo.errors import InputError
from zoo.formats import open_source


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder that torch wrote, and the state dict in it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(5, 4)).sum().backward()
    optimizer.step()
    folder = tmp_path_factory.mktemp("dcp") / "step"
    state = {name: value.clone() for name, value in model.state_dict().items()}
    state["half"] = torch.randn(3).bfloat16()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"model": state, "optimizer": optimizer.state_dict(), "epoch": 3}, checkpoint_id=folder, no_dist=True)
    return folder, state


def test_the_model_of_a_folder(saved, same):
    folder, state = saved
    source = open_source(folder)
    same(source, state)
    assert source.kind == "torch.distributed.checkpoint folder: state dict under 'model'"
    assert all(source.byte_range(name) for name in state)


def test_no_class_of_the_folder_is_imported(saved, monkeypatch):
    monkeypatch.setattr(pickle, "load", None)
    monkeypatch.setattr(pickle, "loads", None)
    assert open_source(saved[0]).array("1.weight").shape == (3,)


def write(folder, tensor, boxes, *, file="__0_0.distcp", **changes):
    """A folder with `tensor` in parts, as several processes write it."""
    folder.mkdir()
    chunks, places, offset = [], {}, 0
    with open(folder / "__0_0.distcp", "wb") as out:
        for start, shape in boxes:
            part = tensor[tuple(slice(a, a + b) for a, b in zip(start, shape, strict=True))].clone()
            torch.save(part, out)
            chunks.append(ChunkStorageMetadata(torch.Size(start), torch.Size(shape)))
            place = {"relative_path": file, "offset": offset, "length": out.tell() - offset, **changes}
            places[MetadataIndex("w", torch.Size(start))] = _StorageInfo(**place)
            offset = out.tell()
    properties = TensorProperties(dtype=tensor.dtype)
    stored = TensorStorageMetadata(properties, tensor.shape, chunks)
    (folder / ".metadata").write_bytes(pickle.dumps(Metadata({"w": stored}, None, places)))
    return folder


HALVES = [((0, 0), (2, 6)), ((2, 0), (3, 6))]


@pytest.mark.parametrize("boxes", [HALVES, [((0, 0), (5, 2)), ((0, 2), (5, 4))], [((0, 0), (5, 6))]])
def test_parts_are_put_together(boxes, tmp_path):
    tensor = torch.randn(5, 6)
    source = open_source(write(tmp_path / "parts", tensor, boxes))
    assert torch.equal(source.tensor("w"), tensor)
    expected = {"w": torch.empty(5, 6)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load(expected, checkpoint_id=tmp_path / "parts", no_dist=True)
    assert torch.equal(source.tensor("w"), expected["w"])


@pytest.mark.parametrize(
    ("boxes", "changes", "message"),
    [
        (HALVES, {"file": "../secret"}, "do not trust this checkpoint"),
        (HALVES, {"file": "gone.distcp"}, "is missing"),
        (HALVES, {"offset": 10**9}, "cut short"),
        (HALVES, {"length": 3}, "shorter than its shape"),
        (HALVES, {"offset": -1}, "no counts"),
        (HALVES[:1], {}, "do not make all of it"),
        ([((0, 0), (2, 6)), ((3, 0), (3, 6))], {}, "lies outside of it"),
    ],
)
def test_folders_that_lie(boxes, changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        open_source(write(tmp_path / "bad", torch.randn(5, 6), boxes, **changes))


def test_overlapping_parts_are_found_when_read(tmp_path):
    source = open_source(write(tmp_path / "bad", torch.randn(4, 6), [((0, 0), (2, 6)), ((1, 0), (2, 6))]))
    with pytest.raises(InputError, match="overlap"):
        source.array("w")


@pytest.mark.parametrize("content", [pickle.dumps({}), b"", b"\x80\x02N.", pickle.dumps(Path("x"))])
def test_other_metadata(content, tmp_path):
    (tmp_path / ".metadata").write_bytes(content)
    with pytest.raises(InputError, match=r"torch\.distributed\.checkpoint folder|is empty"):
        open_source(tmp_path)
