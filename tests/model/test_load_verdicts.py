"""The classic ways to load the wrong thing: each gets the verdict a user would want, and a hint at the cause."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from zoo.errors import InputError, WorkError, ZooError
from zoo.model.load_into import load_into

Write = Callable[..., Path]


class Tied(nn.Module):
    """An embedding and a decoder that may share their weight."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.body = nn.Linear(8, 8)
        self.head = nn.Linear(8, 20, bias=False)
        if tied:
            self.head.weight = self.embed.weight


@pytest.fixture
def vit(randomise: Callable) -> nn.Module:
    return randomise(timm.create_model("test_vit"))


def refused(model: nn.Module, path: Path, *words: str, remap: object = None) -> None:
    """The load fails with these words in the message, and the model is as it was."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ZooError) as caught:
        load_into(model, path, remap)
    for word in words:
        assert word in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def same(model: nn.Module, other: nn.Module) -> bool:
    state = other.state_dict()
    return all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_1_a_prefix_left_on(vit: nn.Module, write: Write) -> None:
    path = write({f"encoder.{name}": tensor for name, tensor in vit.state_dict().items()})
    for remap in (None, r"^encoder\.="):
        fresh = timm.create_model("test_vit")
        report = load_into(fresh, path, remap)
        assert same(fresh, vit)
        assert any("encoder" in note for note in report.notes) == (remap is None)


def test_1b_a_prefix_lacking(vit: nn.Module, write: Write) -> None:
    model = nn.ModuleDict({"backbone": timm.create_model("test_vit")})
    path = write(vit.state_dict())
    refused(model, path, "lack the prefix 'backbone.'", "the rule '^=backbone.'")
    load_into(model, path, "^=backbone.")
    assert same(model["backbone"], vit)


def test_1c_a_known_wrapper_comes_off_by_a_rule_that_is_told(vit: nn.Module, write: Write) -> None:
    path = write({f"module._orig_mod.{name}": tensor for name, tensor in vit.state_dict().items()})
    fresh = timm.create_model("test_vit")
    report = load_into(fresh, path)
    assert same(fresh, vit)
    assert [rule.as_mapping() for rule in report.rules] == [{"strip_prefix": "module."}, {"strip_prefix": "_orig_mod."}]
    assert any("'module.'" in note for note in report.notes)


def test_2_another_architecture(vit: nn.Module, write: Write) -> None:
    refused(timm.create_model("test_resnet"), write(vit.state_dict()), "only 0%", "another architecture")


def test_2b_another_size_of_the_same_architecture(write: Write) -> None:
    path = write(timm.create_model("test_vit2").state_dict())
    refused(timm.create_model("test_vit"), path, "does not fill the model")


def test_2c_another_width(vit: nn.Module, write: Write) -> None:
    wide = timm.create_model("test_vit", embed_dim=128)
    refused(wide, write(vit.state_dict()), "another size of this network", "[64]", "[128]")


def test_3_another_number_of_classes(vit: nn.Module, write: Write) -> None:
    path = write(vit.state_dict())
    model = timm.create_model("test_vit", num_classes=10)
    refused(
        model, path, "head.weight is [1000, 64] in the file and [10, 64] in the model", "--to-argument num_classes=1000"
    )
    report = load_into(model, path, min_coverage=0.9, ignore=["head"])
    assert report.coverage == 1
    assert {row.name for row in report.mismatched} == {"head.weight", "head.bias"}
    assert set(report.missing) == {"head.weight", "head.bias"}
    with pytest.raises(WorkError, match=r"head\.weight is"):
        load_into(model, path, min_coverage=0.1)
    lenient = load_into(model, path, min_coverage=0.1, strict_shapes=False)
    assert set(lenient.missing) == {"head.weight", "head.bias"}


@pytest.mark.parametrize("source_tied", [True, False])
@pytest.mark.parametrize("target_tied", [True, False])
def test_4_tied_and_untied(write: Write, source_tied: bool, target_tied: bool) -> None:
    torch.manual_seed(0)
    source, target = Tied(source_tied), Tied(target_tied)
    path = write(source.state_dict())
    if target_tied and not source_tied:
        refused(target, path, "are to be one tensor, but the source has two different ones", "drop: ^head.weight$")
        load_into(target, path, "drop: ^head.weight$")
    else:
        load_into(target, path)
    assert torch.equal(target.embed.weight, source.embed.weight)
    expected = source.embed.weight if target_tied else source.head.weight
    assert torch.equal(target.head.weight, expected)
    assert (target.head.weight is target.embed.weight) is target_tied


@pytest.mark.parametrize("kept", ["embed.weight", "head.weight"])
def test_4b_half_tied(write: Write, kept: str) -> None:
    state = Tied(True).state_dict()
    path = write({name: tensor for name, tensor in state.items() if name in (kept, "body.weight", "body.bias")})
    tied = Tied(True)
    assert load_into(tied, path).missing == ()
    assert torch.equal(tied.head.weight, state[kept])
    refused(Tied(False), path, "of the target's parameters would be filled")


def test_5_a_truncated_file(vit: nn.Module, write: Write) -> None:
    path = write(vit.state_dict())
    path.write_bytes(path.read_bytes()[:-1000])
    refused(vit, path, "cut short")


def test_6_a_file_without_tensors(vit: nn.Module, write: Write) -> None:
    refused(vit, write({}), "not one tensor would be moved")


def test_7_a_wrapped_state_dict(vit: nn.Module, tmp_path: Path) -> None:
    wrapped = {"epoch": 3, "state_dict": {f"model.{name}": t for name, t in vit.state_dict().items()}}
    torch.save(wrapped, tmp_path / "lightning.ckpt")
    fresh = timm.create_model("test_vit")
    report = load_into(fresh, tmp_path / "lightning.ckpt")
    assert report.coverage == 1
    assert same(fresh, vit)


def test_8_transposed_weights(write: Write) -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 7))
    state = model.state_dict()
    path = write({name: tensor.t().contiguous() for name, tensor in state.items()})
    fresh = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 7))
    refused(fresh, path, "the other way round", r"transpose: ^\d+\.weight$")
    load_into(fresh, path, "transpose: weight$")
    assert same(fresh, model)


def test_9_a_deeper_network_in_the_file(write: Write) -> None:
    path = write(timm.create_model("test_vit", depth=12).state_dict())
    refused(timm.create_model("test_vit", depth=4), path, "of the file would be used", "a deeper network")
    load_into(timm.create_model("test_vit", depth=4), path, r"drop: ^blocks\.([4-9]|1\d)\.")


def test_10_a_shallower_network_in_the_file(write: Write) -> None:
    path = write(timm.create_model("test_vit", depth=4).state_dict())
    refused(timm.create_model("test_vit", depth=12), path, "a shallower network")


def test_11_other_names_for_the_same_network(vit: nn.Module, write: Write) -> None:
    state = {name.replace("blocks.", "layer_").replace("norm", "ln"): t for name, t in vit.state_dict().items()}
    state = {f"x{name}": tensor for name, tensor in state.items()}
    refused(timm.create_model("test_vit"), write(state), "try --remap auto")


def test_12_another_number_of_input_channels(vit: nn.Module, write: Write) -> None:
    model = timm.create_model("test_vit", in_chans=5)
    path = write(vit.state_dict())
    rule = r"adapt_input: ^patch_embed\.proj\.weight$"
    refused(model, path, "takes 3 input channels in the file and 5 in the target", rule)
    assert load_into(model, path, rule).coverage == 1


def test_13_another_image_size(vit: nn.Module, write: Write) -> None:
    model = timm.create_model("test_vit", img_size=320)
    path = write(vit.state_dict())
    refused(model, path, "resample_pos_embed: ^pos_embed$")
    assert load_into(model, path, "resample_pos_embed: ^pos_embed$").coverage == 1


def test_14_lacking_batch_norm_statistics(write: Write) -> None:
    model = timm.create_model("test_resnet")
    state = {name: tensor for name, tensor in model.state_dict().items() if "running" not in name}
    refused(model, write(state), "0% of the target's buffers")


def test_15_no_such_file_and_files_that_are_none(vit: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "page.pth").write_text("<!DOCTYPE html>")
    for path in (tmp_path / "none.pth", tmp_path / "page.pth", tmp_path):
        with pytest.raises(InputError):
            load_into(vit, path)
