"""inspect says what each file is and what is in it, and opens nothing that would run."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from zoo.checkpoint.inspect import inspect
from zoo.errors import InputError


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


def expected(tensors):
    names = {torch.float32: "F32", torch.int64: "I64", torch.bfloat16: "BF16"}
    return {
        name: {"name": name, "dtype": names[value.dtype], "shape": list(value.shape), "bytes": value.nbytes}
        for name, value in tensors.items()
    }


@pytest.mark.parametrize("kind", ["safetensors", "pth", "legacy"])
def test_tensors_and_totals(kind, network, tmp_path):
    state = network.state_dict() | {"extra": torch.ones(3).bfloat16()}
    path = tmp_path / f"a.{kind}"
    if kind == "safetensors":
        save_file(state, path, {"format": "pt", "note": "hello"})
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "pth")
    found = inspect(path)
    assert {row["name"]: row for row in found["tensors"]} == expected(state)
    assert found["totals"] == {
        "tensors": len(state),
        "elements": sum(value.numel() for value in state.values()),
        "bytes": sum(value.nbytes for value in state.values()),
        "dtypes": {"F32": 8, "I64": 1, "BF16": 1},
    } | ({"dtypes": found["totals"]["dtypes"]} if kind == "safetensors" else {})
    assert found["bytes_on_disk"] == path.stat().st_size
    assert found["metadata"] == ({"format": "pt", "note": "hello"} if kind == "safetensors" else {})
    json.dumps(found, allow_nan=False)


def test_modules_sum_what_lies_below(network, tmp_path):
    save_file(network.state_dict(), tmp_path / "a.safetensors")
    modules = {row["path"]: row for row in inspect(tmp_path / "a.safetensors")["modules"]}
    assert list(modules) == ["", "0", "1", "3"]
    assert modules["0"] == {"path": "0", "tensors": 2, "elements": 112, "bytes": 448}
    assert modules[""]["elements"] == sum(value.numel() for value in network.state_dict().values())


def test_modules_are_numbered_by_size_not_by_letter(tmp_path):
    save_file({f"blocks.{index}.w": torch.ones(1) for index in range(12)}, tmp_path / "a.safetensors")
    paths = [row["path"] for row in inspect(tmp_path / "a.safetensors")["modules"]]
    assert paths == ["", "blocks", *(f"blocks.{index}" for index in range(12))]


FILES = {
    "a tensor": (lambda n: torch.arange(4), "tensor", ["tensor"]),
    "a list of tensors": (lambda n: [torch.ones(2), torch.zeros(3)], "list of tensors", ["0", "1"]),
    "a dict of tensors": (lambda n: {"x": torch.ones(2), "y": torch.zeros(3)}, "dict of tensors", ["x", "y"]),
    "a state dict": (lambda n: n.state_dict(), "state dict", None),
    "a wrapped one": (lambda n: {"model": n.state_dict(), "epoch": 1}, "state dict under 'model'", None),
}


@pytest.mark.parametrize("what", FILES)
@pytest.mark.parametrize("new", [True, False])
def test_the_tutorial_s_files(what, new, network, tmp_path):
    make, kind, names = FILES[what]
    torch.save(make(network), tmp_path / "a", _use_new_zipfile_serialization=new)
    found = inspect(tmp_path / "a")
    assert found["kind"].endswith(kind)
    assert [row["name"] for row in found["tensors"]] == (names or list(network.state_dict()))


def test_a_whole_model_is_described_not_opened(network, tmp_path):
    torch.save(network, tmp_path / "a.pth")
    found = inspect(tmp_path / "a.pth")
    assert found["kind"] == "pickled model (torch.nn.modules.container.Sequential)"
    assert "torch.nn.modules.conv.Conv2d" in found["refused"]
    assert found["tensors"] == []
    assert "torch.save(model.state_dict()" in found["notes"][0]


def test_groups_that_nothing_chooses_between_are_all_shown(network, tmp_path):
    torch.save({"encoder": network.state_dict(), "decoder": nn.Linear(2, 1).state_dict()}, tmp_path / "a.pth")
    found = inspect(tmp_path / "a.pth")
    assert [row["name"] for row in found["tensors"]][-1] == "decoder.bias"
    assert "several groups" in found["notes"][0]
    assert [row["name"] for row in inspect(tmp_path / "a.pth", key="decoder")["tensors"]] == ["weight", "bias"]


def test_ties_wrappers_and_records(network, tmp_path):
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    torch.save(state | {"module.tied": state["module.3.weight"]}, tmp_path / "a.pth")
    found = inspect(tmp_path / "a.pth")
    assert found["wrappers"] == ["module."]
    assert found["aliases"] == {"module.tied": "module.3.weight"}
    assert found["tensors"][-1]["alias_of"] == "module.3.weight"
    assert found["totals"]["tensors"] == len(state)
    save_file({"a": torch.ones(1)}, tmp_path / "b.safetensors", {"zoo": '{"format": 1, "architecture": "timm/x"}'})
    assert inspect(tmp_path / "b.safetensors")["zoo"] == {"format": 1, "architecture": "timm/x"}
    assert inspect(tmp_path / "b.safetensors")["kind"] == "zoo checkpoint"
    save_file({"a": torch.ones(1)}, tmp_path / "c.safetensors", {"zoo": "{broken"})
    assert inspect(tmp_path / "c.safetensors")["zoo"] is None


def test_npz_and_missing_files(tmp_path):
    np.savez(tmp_path / "a.npz", w=np.ones((2, 3), np.float32))
    assert inspect(tmp_path / "a.npz")["tensors"] == [{"name": "w", "dtype": "F32", "shape": [2, 3], "bytes": 24}]
    with pytest.raises(InputError, match="there is no file"):
        inspect(tmp_path / "b.npz")


def test_names_with_endless_dots_cost_little(tmp_path):
    save_file({"a." * 200_000 + "w": torch.ones(1)}, tmp_path / "a.safetensors")
    assert len(inspect(tmp_path / "a.safetensors")["modules"]) < 50
