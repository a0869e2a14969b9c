"""Weights in a network for images of another size or other channels: what timm does to them, and what is said."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from timm.models import adapt_input_conv

import zoo
from zoo.contracts import Weights
from zoo.errors import InputError, WorkError
from zoo.model.build import build
from zoo.model.input_fit import arguments_for
from zoo.model.pretrained import load_weights

SWIN = {"embed_dim": 24, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2], "num_classes": 5}


def filled(tmp_path, architecture, before, now, **about):
    """The weights of the architecture as built with `before`, and the assembly and report with them for `now`."""
    torch.manual_seed(0)
    model = build(architecture, before).model
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, tmp_path / "w.safetensors")
    assembly = build(architecture, now)
    report = load_weights(assembly, Weights(str(tmp_path / "w.safetensors"), architecture, **about))
    return model.state_dict(), assembly.model.state_dict(), report, assembly


@pytest.mark.parametrize(
    ("size", "grid"), [(96, (6, 6)), ((96, 64), (6, 4)), ((64, 96), (4, 6)), (224, (14, 14))], ids=str
)
def test_positions_are_resampled_as_timm_does(tmp_path, size, grid):
    old, new, report, assembly = filled(tmp_path, "timm/test_vit", {}, {"img_size": size})
    theirs = resample_abs_pos_embed(old["pos_embed"], grid, num_prefix_tokens=1)
    assert torch.equal(new["pos_embed"], theirs)
    assert report.adapted == (f"pos_embed resampled 10 x 10 -> {grid[0]} x {grid[1]}",)
    assert assembly.preprocessing.size == ((size, size) if isinstance(size, int) else size)
    (rule,) = assembly.base_weights["remap"]
    assert rule["resample_pos_embed"]["prefix_tokens"] == 1


@pytest.mark.parametrize("channels", [1, 6, 9])
def test_the_first_convolution_is_adapted_as_timm_does(tmp_path, channels):
    old, new, report, _ = filled(tmp_path, "timm/test_resnet", {}, {"in_chans": channels})
    (stem,) = (name for name in old if old[name].shape != new[name].shape)
    assert torch.allclose(new[stem], adapt_input_conv(channels, old[stem]), atol=1e-7)
    assert report.coverage == 1
    said = "summed" if channels == 1 else f"shared out among {channels}"
    assert report.adapted == (f"{stem}: its 3 input channels are {said}",)


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 7])
def test_a_grey_image_gives_what_it_gave(tmp_path, channels):
    old, new, _, _ = filled(tmp_path, "timm/test_resnet", {}, {"in_chans": channels})
    (stem,) = (name for name in old if old[name].shape != new[name].shape)
    assert torch.allclose(new[stem].sum(1), old[stem].sum(1), atol=1e-6)


@pytest.mark.parametrize("size", [(112, 112), (112, 56)])
def test_a_windowed_network(tmp_path, size):
    old, new, report, assembly = filled(
        tmp_path, "timm/swin_tiny_patch4_window7_224", {**SWIN, "img_size": 224}, {**SWIN, "img_size": size}
    )
    changed = [name for name in old if old[name].shape != new[name].shape]
    assert changed
    assert all("bias_table" in name for name in changed)
    assert any(text.startswith("tables of relative positions resampled 7 x 7 -> ") for text in report.adapted)
    assert assembly.model(torch.zeros(1, 3, *size)).shape == (1, 5)


def test_another_width_is_not_adapted(tmp_path):
    with pytest.raises(WorkError, match="does not fill the model"):
        filled(tmp_path, "timm/test_vit", {"embed_dim": 32}, {"img_size": 96})


def test_which_arguments_a_size_asks_for():
    vit, resnet = (build(f"timm/test_{kind}", device="meta") for kind in ("vit", "resnet"))
    assert arguments_for(vit, (96, 96), 3) == {"img_size": 96}
    assert arguments_for(vit, (96, 64), 1) == {"img_size": [96, 64], "in_chans": 1}
    assert arguments_for(vit, (160, 160), 3) == {}
    assert arguments_for(resnet, (96, 96), 3) == {}
    dynamic = build("timm/test_vit", {"dynamic_img_size": True}, device="meta")
    assert arguments_for(dynamic, (96, 96), 3) == {}
    torchvisions = build("torchvision/vit_b_32", device="meta")
    assert arguments_for(torchvisions, (96, 96), 3) == {"image_size": 96}
    with pytest.raises(InputError, match=r"100 x 100 is no multiple .* patches of 16 x 16 \(write 96 or 112\)"):
        arguments_for(vit, (100, 100), 3)
    with pytest.raises(InputError, match=r"100 x 64 is no multiple .*\(write \[96, 64\] or \[112, 64\]\)"):
        arguments_for(vit, (100, 64), 3)
    with pytest.raises(InputError, match=r"no number of them \(put adapt_input: auto in front"):
        arguments_for(build("torchvision/resnet18", device="meta"), (224, 224), 1)


def test_zoo_build_adapts_too(tmp_path):
    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "w.safetensors")
    model = zoo.build("timm/test_vit", weights=str(tmp_path / "w.safetensors"), img_size=96, in_chans=1)
    assert model(torch.zeros(1, 1, 96, 96)).shape == (1, 1000)
    assert model.zoo.preprocessing.channels == 1
