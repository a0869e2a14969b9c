"""A checkpoint rebuilds its model bit for bit, with nothing but the file; what was tampered with is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import zoo
from zoo.api import Context
from zoo.checkpoint.load import load
from zoo.checkpoint.save import save_checkpoint
from zoo.errors import InputError
from zoo.formats import open_source
from zoo.formats.checkpoint_metadata import CheckpointMetadata, digests_of
from zoo.formats.safetensors_file import read_header
from zoo.formats.save import save_tensors
from zoo.model.assembly import Assembly
from zoo.model.build import build
from zoo.model.operations import operate

ARCHITECTURES = [
    "timm/beit_base_patch16_224",
    "timm/coat_lite_tiny",
    "timm/convnext_atto",
    "timm/densenet121",
    "timm/eva02_tiny_patch14_224",
    "timm/halonet26t",
    "timm/hiera_tiny_224",
    "timm/levit_128s",
    "timm/maxvit_rmlp_pico_rw_256",
    "timm/mixer_s32_224",
    "timm/mobilevit_xxs",
    "timm/regnety_002",
    "timm/swin_tiny_patch4_window7_224",
    "timm/swinv2_tiny_window8_256",
    "timm/tf_efficientnet_lite0",
    "timm/vit_relpos_small_patch16_224",
    "timm/vit_tiny_patch16_224",
    "timm/xcit_nano_12_p16_224",
    "torchvision/maxvit_t",
    "torchvision/mobilenet_v3_small",
    "torchvision/swin_t",
]
"""Convolutional and attention networks; many of them with buffers that no state dict holds."""


def randomised(assembly: Assembly, seed: int = 0) -> Assembly:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in assembly.model.state_dict().items():
            if tensor.is_floating_point():
                values = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(values + 0.5 if name.endswith("var") else (values - 0.5) * 0.2)
    return assembly


def swapped(architecture: str, classes: int = 7) -> Assembly:
    """The network with a new head, every tensor random."""
    assembly = build(architecture)
    context = Context(classes, preprocessing=assembly.preprocessing)
    return randomised(operate(assembly, "zoo/swap_head", {"num_classes": "auto"}, context))


def answer(model: nn.Module, assembly: Assembly) -> torch.Tensor:
    height, width = assembly.preprocessing.size
    images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model.eval()(images)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_are_bit_equal(architecture: str, tmp_path: Path) -> None:
    assembly = swapped(architecture)
    save_checkpoint(assembly, tmp_path / "m.safetensors")
    state = torch.random.get_rng_state()
    again = zoo.load(tmp_path / "m.safetensors")
    assert torch.equal(torch.random.get_rng_state(), state), "loading must not touch the random generator"
    assert not again.training
    assert torch.equal(answer(again, assembly), answer(assembly.model, assembly))


@pytest.mark.parametrize("architecture", ["timm/test_vit", "timm/test_efficientnet", "timm/test_resnet"])
def test_small_networks_come_back(architecture: str, tmp_path: Path) -> None:
    assembly = swapped(architecture)
    assembly.classes, assembly.task = tuple("abcdefg"), "multilabel"
    save_checkpoint(assembly, tmp_path / "m.safetensors", metrics={"accuracy": 0.5})
    model = zoo.load(tmp_path / "m.safetensors")
    again = model.zoo
    assert torch.equal(answer(model, assembly), answer(assembly.model, assembly))
    assert (again.classes, again.task) == (assembly.classes, "multilabel")
    assert again.preprocessing == assembly.preprocessing
    assert list(again.operations) == assembly.operations
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_fresh_process_needs_the_file_alone(tmp_path: Path) -> None:
    assembly = swapped("timm/test_vit")
    save_checkpoint(assembly, tmp_path / "m.safetensors")
    torch.save(answer(assembly.model, assembly), tmp_path / "logits.pt")
    code = (
        "import torch, zoo; model = zoo.load('m.safetensors'); h, w = model.zoo.preprocessing.size;"
        "x = torch.randn(2, 3, h, w, generator=torch.Generator().manual_seed(1));"
        "torch.no_grad().__enter__(); assert torch.equal(model(x), torch.load('logits.pt'))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_structural_step_is_replayed(tmp_path: Path) -> None:
    assembly = build("timm/test_resnet")
    context = Context(5, preprocessing=assembly.preprocessing)
    operate(assembly, "zoo/replace_module", {"path": "layer1.0.act1", "module": "GELU"}, context)
    operate(assembly, "zoo/swap_head", {"num_classes": "auto", "module": {"Linear": {"out_features": 5}}}, context)
    operate(assembly, "zoo/add_module", {"name": "extra", "module": {"Linear": {"out_features": 3}}}, context)
    randomised(assembly)
    save_checkpoint(assembly, tmp_path / "m.safetensors")
    again = zoo.load(tmp_path / "m.safetensors")
    assert answer(again, assembly).shape == (2, 3)
    assert torch.equal(answer(again, assembly), answer(assembly.model, assembly))


def test_tied_tensors_stay_tied_and_are_written_once(tmp_path: Path) -> None:
    assembly = build("timm/test_vit", {"depth": 4})
    assembly.model.blocks[1].norm1.weight = assembly.model.blocks[0].norm1.weight
    save_checkpoint(randomised(assembly), tmp_path / "m.safetensors")
    header = read_header(tmp_path / "m.safetensors")
    assert "blocks.1.norm1.weight" not in header.entries
    assert json.loads(header.metadata["zoo"])["tied"] == {"blocks.1.norm1.weight": "blocks.0.norm1.weight"}
    again = zoo.load(tmp_path / "m.safetensors")
    assert torch.equal(again.blocks[1].norm1.weight, assembly.model.blocks[0].norm1.weight)


def test_stored_in_half_it_comes_back_in_the_models_own_dtype(tmp_path: Path) -> None:
    assembly = swapped("timm/test_vit")
    saved = save_checkpoint(assembly, tmp_path / "half.safetensors", dtype="bfloat16")
    assert saved["bytes"] < 0.6 * save_checkpoint(assembly, tmp_path / "full.safetensors")["bytes"]
    again = zoo.load(tmp_path / "half.safetensors")
    assert torch.equal(again.pos_embed, assembly.model.pos_embed.bfloat16().float())
    assert answer(again, assembly).dtype == torch.float32


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (save_checkpoint(swapped("timm/test_vit"), tmp_path / f"{i}.safetensors") for i in (1, 2))
    assert first["sha256"] == second["sha256"]


def tamper(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], drop: str | None = None, *, sealed: bool = True
) -> Path:
    """A good checkpoint whose metadata (or tensors) somebody changed, who computed the digests anew (`sealed`)."""
    path = tmp_path / "m.safetensors"
    save_checkpoint(swapped("timm/test_vit"), path)
    with open_source(path) as source:
        table = json.loads(source.metadata["zoo"])
        tensors = {name: source.tensor(name) for name in source.entries if name != drop}
        kept = [entry for name, entry in source.entries.items() if name != drop]
    change(table)
    if sealed:
        table["digests"] = digests_of(CheckpointMetadata(architecture="").model_dump() | table, kept)
    save_tensors(tensors, path, {"zoo": json.dumps(table)})
    return path


def head(table: dict[str, Any]) -> dict[str, Any]:
    """The recorded arguments of the new head."""
    arguments: dict[str, Any] = table["operations"][0]["arguments"]["heads"]["head"]["Linear"]
    return arguments


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t: t["operations"][0].update(surgery="os/system"), "no surgeries component is called 'os/system'"),
        (lambda t: t["operations"][0].update(surgery="zoo/swap_hed"), "did you mean zoo/swap_head"),
        (lambda t: t["operations"][0]["arguments"].update(code="import os"), "takes no argument 'code'"),
        (lambda t: head(t).update(out_features=9), "does not fit the timm/test_vit"),
        (lambda t: head(t).update(code="import os"), "code"),
        (lambda t: t["operations"].clear(), "does not fit the timm/test_vit it describes"),
        (lambda t: t.update(architecture="timm/test_vitt"), "did you mean timm/test_vit"),
        (lambda t: t.update(architecture="timm/test_vit2"), "does not fit"),
        (lambda t: t.update(arguments={"checkpoint_path": "/etc/passwd"}), "would load weights behind zoo's back"),
        (lambda t: t.update(arguments={"nonsense": 1}), "nonsense"),
        (lambda t: t.update(format=99), "newer zoo"),
        (lambda t: t.update(shell="rm"), "shell: Extra inputs"),
    ],
)
def test_what_was_tampered_with_is_refused(tmp_path: Path, change: Callable[[dict], object], why: str) -> None:
    path = tamper(tmp_path, change)
    with pytest.raises(InputError, match=why) as caught:
        zoo.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda t: t["operations"][0]["arguments"].update(bias=False), "operations"),
        (lambda t: t.update(arguments={"drop_rate": 0.5}), "architecture"),
        (lambda t: t["preprocessing"].update(mean=[0.0, 0.0, 0.0]), "preprocessing"),
        (lambda t: t.update(classes=["a", "b"]), "classes"),
        (lambda t: t["digests"].update(tensors="0" * 64), "tensors"),
        (lambda t: t.pop("digests"), "architecture, operations, classes, preprocessing"),
    ],
)
def test_what_was_edited_is_named(tmp_path: Path, change: Callable[[dict], object], part: str) -> None:
    path = tamper(tmp_path, change, sealed=False)
    with pytest.raises(InputError, match=rf"was edited after zoo wrote it: .* its {part} \("):
        zoo.load(path)


def test_a_lost_tensor_is_named(tmp_path: Path) -> None:
    path = tamper(tmp_path, lambda table: None, drop="norm.weight")
    with pytest.raises(InputError, match=r"it lacks 'norm\.weight'"):
        zoo.load(path)


def test_other_versions_are_named_where_it_does_not_fit(tmp_path: Path) -> None:
    path = tamper(tmp_path, lambda table: table["versions"].update(timm="0.4.12"), drop="norm.weight")
    with pytest.raises(InputError, match=r"written with timm 0\.4\.12 \(here 1\."):
        zoo.load(path)


def test_files_of_other_tools_are_no_checkpoints(tmp_path: Path) -> None:
    save_tensors({"a": torch.randn(2)}, tmp_path / "a.safetensors")
    torch.save({"a": torch.randn(2)}, tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pth"):
        with pytest.raises(InputError, match="is no zoo checkpoint"):
            zoo.load(tmp_path / name)


def test_load_gives_the_assembly(tmp_path: Path) -> None:
    assembly = swapped("timm/test_vit")
    save_checkpoint(assembly, tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors", device="cpu")
    assert again.architecture == "timm/test_vit"
    assert again.arguments == {}
