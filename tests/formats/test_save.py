"""Saving from memory: upstream's bytes, ties kept once, nothing half written."""

import hashlib
import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from zoo.errors import InputError
from zoo.formats import open_source
from zoo.formats.save import save_tensors, tied_aliases


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    return {"b": torch.randn(3, 2), "a": torch.randn(4).bfloat16(), "n": torch.tensor(3), "e": torch.zeros(2, 0)}


def test_bytes_are_upstream_s_and_the_digest_is_theirs(tensors, tmp_path):
    digest = save_tensors(tensors, tmp_path / "a", {"format": "pt"})
    save_file(tensors, tmp_path / "b", {"format": "pt"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert digest == hashlib.sha256((tmp_path / "a").read_bytes()).hexdigest()


def test_bytes_do_not_depend_on_order(tensors, tmp_path):
    backwards = dict(reversed(tensors.items()))
    assert save_tensors(tensors, tmp_path / "a", {"x": "1", "y": "2"}) == save_tensors(
        backwards, tmp_path / "b", {"y": "2", "x": "1"}
    )


def test_views_are_saved_in_c_order(tmp_path):
    base = torch.randn(5, 4)
    views = {"t": base.t(), "column": base[:, 1], "rows": base[1:3], "expanded": base[0].expand(3, 4)}
    views |= {"channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)}
    views |= {
        "conjugated": torch.randn(3, dtype=torch.complex64).conj(),
        "gradient": torch.randn(2, requires_grad=True),
    }
    save_tensors(views, tmp_path / "a")
    loaded = load_file(tmp_path / "a")
    assert all(torch.equal(loaded[name], value) for name, value in views.items())


def tied_network():
    network = nn.Module()
    network.embed, network.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
    network.head.weight = network.embed.weight
    return network


def test_tied_tensors_are_written_once_and_told(tmp_path):
    state = tied_network().state_dict()
    assert tied_aliases(state) == {"head.weight": "embed.weight"}
    save_tensors(state, tmp_path / "a.safetensors")
    assert list(load_file(tmp_path / "a.safetensors")) == ["embed.weight"]
    source = open_source(tmp_path / "a.safetensors")
    assert source.aliases == {"head.weight": "embed.weight"}
    assert torch.equal(source.tensor("head.weight"), state["embed.weight"])


def test_ties_that_the_caller_tells_are_not_told_twice(tmp_path):
    metadata = {"zoo": '{"tied": {"head.weight": "embed.weight"}}'}
    save_tensors(tied_network().state_dict(), tmp_path / "a.safetensors", metadata)
    source = open_source(tmp_path / "a.safetensors")
    assert source.metadata == metadata
    assert source.aliases == {"head.weight": "embed.weight"}


def test_overlapping_views_are_not_tied():
    base = torch.randn(4, 4)
    assert not tied_aliases({"a": base, "b": base[:2], "t": base.t(), "e": base[:0], "f": base[:0]})


@pytest.mark.parametrize(
    "tensor",
    [torch.eye(3).to_sparse(), torch.empty(2, device="meta"), torch.zeros(2, dtype=torch.complex128)],
    ids=["sparse", "meta", "complex128"],
)
def test_what_cannot_be_saved_is_named_before_anything_is_written(tensor, tensors, tmp_path):
    with pytest.raises(InputError, match="tensor 'bad' cannot be saved"):
        save_tensors(tensors | {"bad": tensor}, tmp_path / "a")
    assert not os.listdir(tmp_path)


def test_mode_is_the_umask_s(tensors, tmp_path):
    save_tensors(tensors, tmp_path / "a")
    (tmp_path / "plain").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode
