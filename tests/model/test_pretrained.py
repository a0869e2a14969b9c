"""Pretrained weights by name: found, checked, loaded and remembered."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import timm
import torch

from zoo.api import Preprocessing, Weights
from zoo.errors import InputError, WorkError
from zoo.model.build import build
from zoo.model.pretrained import find_weights, load_weights


def test_real_weights_of_a_plugin() -> None:
    assembly = build("timm/tf_efficientnet_lite0")
    report = load_weights(assembly, "efficientnet-lite/lite0")
    assert report.coverage == report.buffer_coverage == 1
    assert report.plan.use == 1
    assert assembly.preprocessing.mean == (127 / 255,) * 3
    assert len(assembly.classes) == 1000
    assert assembly.base_weights is not None
    assert assembly.base_weights["name"] == "efficientnet-lite/lite0"
    assert assembly.base_weights["sha256"].startswith("57934424")
    assert assembly.base_weights["remap"]


def test_a_network_of_the_same_shapes_is_told_apart() -> None:
    """timm's efficientnet_lite0 has tf_efficientnet_lite0's shapes and other padding."""
    same = [
        {name: tuple(t.shape) for name, t in build(f"timm/{name}", device="meta").model.state_dict().items()}
        for name in ("efficientnet_lite0", "tf_efficientnet_lite0")
    ]
    assert same[0] == same[1]
    with pytest.raises(InputError, match=r"wrong answers.*architecture: timm/tf_efficientnet_lite0"):
        load_weights(build("timm/efficientnet_lite0", device="meta"), "efficientnet-lite/lite0")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("efficientnet-lite/lite9", "did you mean efficientnet-lite/lite"),
        ("a1_in2k", "did you mean a1_in1k"),
        ("nowhere.pth", "nor a file"),
    ],
)
def test_unknown_names_get_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(InputError, match=hint):
        find_weights(name, "timm/resnet18")


def test_tags_files_and_addresses(tmp_path: Path) -> None:
    assert find_weights("a1_in1k", "timm/resnet18").location.startswith(("hf://", "https://"))
    (tmp_path / "w.pth").touch()
    assert find_weights(str(tmp_path / "w.pth"), "timm/resnet18").location == str(tmp_path / "w.pth")
    assert find_weights("hf://org/repo", "timm/resnet18") == Weights("hf://org/repo", "timm/resnet18")


def test_the_head_that_is_swapped_next_does_not_count(tmp_path: Path) -> None:
    state = timm.create_model("test_vit", num_classes=3).state_dict()
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WorkError, match="does not fill the model"):
        load_weights(build("timm/test_vit"), str(tmp_path / "w.pth"))
    assembly = build("timm/test_vit")
    report = load_weights(assembly, str(tmp_path / "w.pth"), ignore_head=True)
    assert report.coverage == 1
    assert torch.equal(assembly.model.pos_embed, state["pos_embed"])
    assert assembly.base_weights is not None
    assert assembly.base_weights["ignore"] == ["head"]


def test_rules_of_the_weights_come_before_those_of_the_recipe(tmp_path: Path) -> None:
    state = {f"x.{name}": tensor for name, tensor in timm.create_model("test_vit").state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    weights = Weights(
        str(tmp_path / "w.pth"),
        "timm/test_vit",
        remap=[{"rename": {r"^x\.": "y."}}],
        preprocessing=Preprocessing(size=(160, 160)),
        classes=[str(number) for number in range(1000)],
    )
    assembly = build("timm/test_vit")
    load_weights(assembly, weights, {"strip_prefix": "y."})
    assert torch.equal(assembly.model.pos_embed, state["x.pos_embed"])
    assert assembly.preprocessing.size == (160, 160)
    assert assembly.classes[-1] == "999"


def test_the_digest_is_that_of_the_whole_file(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "w.pth")
    digest = hashlib.sha256((tmp_path / "w.pth").read_bytes()).hexdigest()
    assembly = build("timm/test_vit")
    load_weights(assembly, Weights(str(tmp_path / "w.pth"), "timm/test_vit", sha256=digest[:8]))
    assert assembly.base_weights is not None
    assert assembly.base_weights["sha256"] == digest
    with pytest.raises(WorkError, match="sha256"):
        load_weights(assembly, Weights(str(tmp_path / "w.pth"), "timm/test_vit", sha256="0" * 64))
