"""`--key`: one network of several in a file, by the prefix of its names, whatever the format."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from zoo.errors import InputError
from zoo.formats import open_source
from zoo.formats.part import names_under

STATE = {
    f"module.{net}.{name}": torch.full((2, 3), float(place))
    for place, net in enumerate(("encoder_q", "encoder_k"))
    for name in ("conv.weight", "fc.weight")
}


def files(folder):
    torch.save({"state_dict": STATE, "epoch": 3}, folder / "moco.pth")
    save_file(STATE, folder / "moco.safetensors")
    np.savez(folder / "moco.npz", **{name: value.numpy() for name, value in STATE.items()})
    return [folder / "moco.pth", folder / "moco.safetensors", folder / "moco.npz"]


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("key", ["module.encoder_k", "encoder_k", "module.encoder_k."])
def test_the_prefix_comes_off_in_every_format(place, key, tmp_path):
    with open_source(files(tmp_path)[place], key=key) as source:
        assert list(source.entries) == ["conv.weight", "fc.weight"]
        assert source.array("fc.weight").tolist() == [[1.0] * 3] * 2
        assert source.tensor("conv.weight").shape == (2, 3)
        assert "encoder_k" in source.kind
        span = source.byte_range("fc.weight")
        assert span is None or span.nbytes == 24


@pytest.mark.parametrize("place", range(3))
def test_another_key_names_the_nearest(place, tmp_path):
    with pytest.raises(InputError, match=r"no tensors under 'module.encoder'.*did you mean module.encoder_[kq]"):
        open_source(files(tmp_path)[place], key="module.encoder")


def test_behind_a_state_dicts_own_name(tmp_path):
    with open_source(files(tmp_path)[0], key="state_dict.module.encoder_q") as source:
        assert source.array("fc.weight").tolist() == [[0.0] * 3] * 2


def test_a_prefix_in_several_places_is_none():
    assert names_under(["a.x.w", "b.x.w"], "x") == {}
    assert names_under(["a.x.w", "x.w"], "x") == {"w": "x.w"}
    assert names_under(["a.xx.w"], "x") == {}
